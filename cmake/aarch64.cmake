# Cross build for 64-bit ARM: cmake -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake
#
# The compiler is Debian's gcc-aarch64-linux-gnu. The arm64 libraries lie in a folder of their own, build/arm64, which
# `tools/setup emulated` makes of Debian packages; DISTILL_SYSROOT names another one.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(DISTILL_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../build/arm64" CACHE PATH "root folder with arm64 libraries")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES DISTILL_SYSROOT)
get_filename_component(CMAKE_SYSROOT "${DISTILL_SYSROOT}" ABSOLUTE)

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_LIBDIR} "${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CMAKE_SYSROOT}")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${CMAKE_SYSROOT})

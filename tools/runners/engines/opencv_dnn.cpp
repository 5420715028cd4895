// opencv_dnn.cpp - the DNN module of the OpenCV that a distribution ships (Debian: 4.6), as a runner of protocol 1 (src/matrix/README.md).
//
// A program of its own, in C++ because that is OpenCV's interface; tools/setup-runtimes compiles it:
//   c++ -std=c++17 -O2 -I/usr/include/opencv4 opencv_dnn.cpp -lopencv_dnn -lopencv_core -ljansson
// Reads float32, uint8 and int64 .npy files in C order, row by row from the file; feeds models of one input.
#include <opencv2/core.hpp>
#include <opencv2/dnn.hpp>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <jansson.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr int protocol = 1;
constexpr size_t header_max = 65536;

struct refused { // an answer that is no result
    std::string kind, message;
};

double seconds()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string one_line(std::string s)
{
    for (char &c : s)
        c = static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    while (!s.empty() && s.back() == ' ')
        s.pop_back();
    return s.size() > 600 ? s.substr(0, 597) + "..." : s;
}

// ---- the machine ----

std::string cpu_name()
{
    std::ifstream f("/proc/cpuinfo");
    for (std::string line; std::getline(f, line);)
        if (line.compare(0, 10, "model name") == 0 && line.find(": ") != std::string::npos)
            return line.substr(line.find(": ") + 2);
    return "unknown processor";
}

const char *cpu_isa()
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return __builtin_cpu_supports("avx512vnni") ? "avx512_vnni" : "avx512";
    return __builtin_cpu_supports("avx2") ? "avx2" : "sse";
#elif defined(__aarch64__)
    return "neon";
#else
    return "unknown";
#endif
}

double peak_mb()
{
    std::ifstream f("/proc/self/status");
    for (std::string line; std::getline(f, line);)
        if (line.compare(0, 6, "VmHWM:") == 0)
            return std::strtod(line.c_str() + 6, nullptr) / 1024;
    return 0;
}

// The library's file, by its bytes (FNV-1a, 64 bits).
std::string library_build()
{
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        size_t at = line.find('/');
        if (at == std::string::npos || line.find("libopencv_dnn", at) == std::string::npos)
            continue;
        std::ifstream f(line.substr(at), std::ios::binary);
        std::vector<char> part(1 << 20);
        unsigned long long hash = 14695981039346656037ull, bytes = 0;
        while (f.read(part.data(), static_cast<std::streamsize>(part.size())) || f.gcount() > 0) {
            for (std::streamsize i = 0; i < f.gcount(); i++)
                hash = (hash ^ static_cast<unsigned char>(part[static_cast<size_t>(i)])) * 1099511628211ull;
            bytes += static_cast<unsigned long long>(f.gcount());
        }
        char said[200];
        std::snprintf(said, sizeof said, "%s, %llu bytes, fnv %016llx", line.substr(line.rfind('/') + 1).c_str(), bytes, hash);
        return said;
    }
    return "unknown";
}

// ---- .npy ----

class npy_file {
  public:
    explicit npy_file(const std::string &path) : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC))
    {
        if (fd_ < 0)
            throw refused{"error", path + ": " + std::strerror(errno)};
        std::vector<char> head(header_max);
        ssize_t n = pread(fd_, head.data(), head.size(), 0);
        if (n < 12 || std::memcmp(head.data(), "\x93NUMPY\x01\x00", 8) != 0)
            fail("no .npy file of version 1");
        size_t length = static_cast<unsigned char>(head[8]) | static_cast<size_t>(static_cast<unsigned char>(head[9])) << 8;
        if (10 + length > static_cast<size_t>(n))
            fail("its header is damaged");
        start_ = 10 + length;
        parse(std::string(head.data() + 10, length));
        each_ = size_;
        for (size_t i = 1; i < shape.size(); i++)
            each_ *= static_cast<size_t>(shape[i]);
        struct stat st;
        if (fstat(fd_, &st) != 0 || static_cast<size_t>(st.st_size) < start_ + static_cast<size_t>(shape[0]) * each_)
            fail("it was cut off");
    }
    npy_file(const npy_file &) = delete;
    npy_file &operator=(const npy_file &) = delete;
    ~npy_file() { close(fd_); }

    // Rows [first, first + n) as float32 [n, ...]; rows beyond `samples` begin again.
    cv::Mat rows(size_t first, size_t n, size_t samples) const
    {
        std::vector<int> dims(shape);
        dims[0] = static_cast<int>(n);
        cv::Mat m(static_cast<int>(dims.size()), dims.data(), CV_32F);
        std::vector<char> raw(each_);
        for (size_t i = 0; i < n; i++) {
            read((first + i) % samples, raw.data());
            put(raw.data(), m.ptr<float>() + i * (each_ / size_));
        }
        return m;
    }

    std::vector<int> shape;

  private:
    [[noreturn]] void fail(const std::string &why) const { throw refused{"error", path_ + ": " + why}; }

    void parse(const std::string &head)
    {
        size_t at = head.find("'shape': (");
        if (at == std::string::npos || head.find("'fortran_order': False") == std::string::npos)
            fail("only arrays in C order are read");
        kind_ = head.find("'<f4'") != std::string::npos ? 'f' : head.find("'|u1'") != std::string::npos ? 'u' : 'i';
        size_ = kind_ == 'f' ? 4 : kind_ == 'u' ? 1 : 8;
        if (kind_ == 'i' && head.find("'<i8'") == std::string::npos)
            fail("only float32, uint8 and int64 are read");
        for (const char *p = head.c_str() + at + 10; *p && *p != ')';) {
            char *end;
            long v = std::strtol(p, &end, 10);
            if (end == p || v < 0 || v > 1 << 30)
                fail("its shape is damaged");
            shape.push_back(static_cast<int>(v));
            for (p = end; *p == ',' || *p == ' '; p++) {
            }
        }
        if (shape.empty() || shape[0] < 1)
            fail("it has no rows");
    }

    void read(size_t row, char *to) const
    {
        for (size_t done = 0; done < each_;) {
            ssize_t n = pread(fd_, to + done, each_ - done, static_cast<off_t>(start_ + row * each_ + done));
            if (n <= 0)
                fail("it cannot be read");
            done += static_cast<size_t>(n);
        }
    }

    void put(const char *raw, float *to) const
    {
        const size_t n = each_ / size_;
        if (kind_ == 'f')
            std::memcpy(to, raw, each_);
        for (size_t i = 0; kind_ == 'u' && i < n; i++)
            to[i] = static_cast<unsigned char>(raw[i]);
        for (size_t i = 0; kind_ == 'i' && i < n; i++) {
            int64_t v;
            std::memcpy(&v, raw + i * 8, 8);
            to[i] = static_cast<float>(v);
        }
    }

    std::string path_;
    int fd_;
    size_t start_ = 0, each_ = 0, size_ = 4;
    char kind_ = 'f';
};

// float32 or int8, [samples, ...]
void write_npy(const std::string &path, const std::vector<char> &data, const std::vector<int> &shape, bool bytes)
{
    std::string head = std::string("{'descr': '") + (bytes ? "|i1" : "<f4") + "', 'fortran_order': False, 'shape': (";
    for (int d : shape)
        head += std::to_string(d) + ",";
    head += ")}";
    head.append(63 - (10 + head.size()) % 64, ' ');
    head += '\n';
    std::ofstream f(path, std::ios::binary);
    f.write("\x93NUMPY\x01\x00", 8);
    f.put(static_cast<char>(head.size() & 255));
    f.put(static_cast<char>(head.size() >> 8));
    f << head;
    f.write(data.data(), static_cast<std::streamsize>(data.size()));
    f.close();
    if (!f)
        throw refused{"error", path + ": cannot be written"};
}

// ---- the request ----

const char *text_of(const json_t *o, const char *key, bool needed = true)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (!s && needed)
        throw refused{"error", std::string("request: '") + key + "' is missing"};
    return s;
}

size_t count_of(const json_t *o, const char *key, size_t unknown)
{
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v))
        return unknown;
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 100000000)
        throw refused{"error", std::string("request: '") + key + "' is out of range"};
    return static_cast<size_t>(json_integer_value(v));
}

json_t *facts()
{
    return json_pack("{s:i s:b s:s s:s s:s s:s s:s}", "protocol", protocol, "ok", 1, "runtime", "OpenCV DNN", "version", CV_VERSION, "build",
                     library_build().c_str(), "device", cpu_name().c_str(), "isa", cpu_isa());
}

cv::dnn::Net read_net(const char *model)
{
    cv::dnn::Net net;
    try {
        net = cv::dnn::readNetFromONNX(model);
    } catch (const cv::Exception &e) {
        throw refused{"unsupported", "OpenCV does not read the file: " + one_line(e.what())};
    }
    if (net.empty())
        throw refused{"unsupported", "OpenCV read an empty network from the file"};
    net.setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
    net.setPreferableTarget(cv::dnn::DNN_TARGET_CPU);
    return net;
}

struct model {
    cv::dnn::Net net;
    std::string input, output;

    cv::Mat run(const cv::Mat &x)
    {
        net.setInput(x, input);
        return net.forward(output);
    }
};

model load(const json_t *request)
{
    const json_t *in = json_object_get(request, "inputs");
    if (json_array_size(in) != 1)
        throw refused{"unsupported", "this runner feeds models of one input only"};
    model m{read_net(text_of(request, "model")), text_of(json_array_get(in, 0), "name"), ""};
    const char *wanted = text_of(request, "output_name", false);
    const std::vector<cv::String> names = m.net.getUnconnectedOutLayersNames();
    m.output = names.at(0);
    for (const cv::String &name : names)
        if (wanted && name == wanted)
            m.output = name;
    return m;
}

json_t *time_runs(model &m, const npy_file &x, size_t samples, const json_t *plan)
{
    const size_t batch = count_of(plan, "batch", 1), runs = count_of(plan, "runs", 100);
    const json_int_t warmup = json_integer_value(json_object_get(plan, "warmup"));
    const double limit = json_number_value(json_object_get(plan, "seconds"));
    std::vector<cv::Mat> feeds;
    for (size_t i = 0; i < 8; i++)
        feeds.push_back(x.rows(i % samples, batch, samples));
    for (json_int_t i = 0; i < warmup; i++)
        m.run(feeds[static_cast<size_t>(i) % feeds.size()]);
    json_t *taken = json_array();
    const double began = seconds();
    for (size_t i = 0; i < runs && (i < 5 || seconds() - began < limit); i++) {
        const double start = seconds();
        m.run(feeds[i % feeds.size()]);
        json_array_append_new(taken, json_real((seconds() - start) * 1e3));
    }
    return taken;
}

json_t *run_cell(const json_t *request)
{
    const size_t samples = count_of(request, "samples", 0), batch = count_of(request, "batch", 1);
    cv::setNumThreads(static_cast<int>(count_of(request, "threads", 1)));
    const npy_file x(text_of(json_array_get(json_object_get(request, "inputs"), 0), "file"));
    if (samples < 1 || samples > static_cast<size_t>(x.shape[0]))
        throw refused{"error", "fewer rows than are asked for"};
    const double began = seconds();
    model m = load(request);
    const double load_ms = (seconds() - began) * 1e3;
    double run_s = 0;
    std::vector<char> all;
    std::vector<int> shape;
    bool bytes = false;
    for (size_t at = 0; at < samples; at += batch) {
        const size_t n = samples - at < batch ? samples - at : batch;
        const cv::Mat feed = x.rows(at, n, samples);
        const double start = seconds();
        cv::Mat y = m.run(feed);
        run_s += seconds() - start;
        bytes = y.depth() == CV_8S;
        if (!y.isContinuous() || (!bytes && y.depth() != CV_32F) || y.dims < 1 || y.size[0] != static_cast<int>(n))
            throw refused{"error", "the output is of another type or shape than [rows, ...] of float32 or int8"};
        shape.assign(y.size.p, y.size.p + y.dims);
        all.insert(all.end(), reinterpret_cast<char *>(y.data), reinterpret_cast<char *>(y.data) + y.total() * y.elemSize());
    }
    shape[0] = static_cast<int>(samples);
    json_t *answer = facts(), *dims = json_array();
    for (int d : shape)
        json_array_append_new(dims, json_integer(d));
    const json_t *plan = json_object_get(request, "latency");
    json_t *taken = json_is_object(plan) ? time_runs(m, x, samples, plan) : json_array();
    write_npy(text_of(request, "output"), all, shape, bytes);
    json_object_set_new(answer, "type", json_string(bytes ? "int8" : "float32"));
    json_object_set_new(answer, "shape", dims);
    json_object_set_new(answer, "providers", json_array());
    json_object_set_new(answer, "load_ms", json_real(load_ms));
    json_object_set_new(answer, "run_s", json_real(run_s));
    json_object_set_new(answer, "latency_ms", taken);
    json_object_set_new(answer, "peak_mb", json_real(peak_mb()));
    json_object_set_new(answer, "notes", json_array());
    return answer;
}

json_t *answer_to(const std::string &line)
{
    try {
        json_error_t e;
        std::unique_ptr<json_t, void (*)(json_t *)> request(json_loads(line.c_str(), 0, &e), json_decref);
        if (!json_is_object(request.get()))
            throw refused{"error", std::string("request: ") + (request ? "not a JSON object" : e.text)};
        const json_int_t spoken = json_integer_value(json_object_get(request.get(), "protocol"));
        if (spoken != protocol)
            throw refused{"error", "request: protocol " + std::to_string(spoken) + "; this runner speaks 1"};
        if (!json_is_true(json_object_get(request.get(), "describe")))
            return run_cell(request.get());
        json_t *answer = facts();
        json_object_set_new(answer, "forms", json_pack("[s,s]", "onnx", "qoperator"));
        return answer;
    } catch (const refused &r) {
        return json_pack("{s:i s:b s:s s:s}", "protocol", protocol, "ok", 0, "kind", r.kind.c_str(), "message", one_line(r.message).c_str());
    } catch (const cv::Exception &e) {
        const char *kind = e.code == cv::Error::StsNotImplemented ? "unsupported" : e.code == cv::Error::StsNoMem ? "memory" : "error";
        return json_pack("{s:i s:b s:s s:s}", "protocol", protocol, "ok", 0, "kind", kind, "message", one_line(e.what()).c_str());
    } catch (const std::bad_alloc &) {
        return json_pack("{s:i s:b s:s s:s}", "protocol", protocol, "ok", 0, "kind", "memory", "message", "out of memory");
    } catch (const std::exception &e) {
        return json_pack("{s:i s:b s:s s:s}", "protocol", protocol, "ok", 0, "kind", "error", "message", one_line(e.what()).c_str());
    }
}

} // namespace

int main()
{
    std::string line;
    const int answers = dup(STDOUT_FILENO); // what OpenCV prints goes to standard error
    if (answers < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return 74;
    for (int c = std::getchar(); c != EOF && c != '\n'; c = std::getchar())
        line += static_cast<char>(c);
    json_t *answer = answer_to(line);
    char *said = answer ? json_dumps(answer, JSON_COMPACT) : nullptr;
    FILE *out = fdopen(answers, "w");
    if (!said || !out || std::fprintf(out, "%s\n", said) < 0 || std::fclose(out) != 0)
        return 74;
    std::free(said);
    json_decref(answer);
    return 0;
}

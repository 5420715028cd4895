/* fake.h - what the twins of cuBLASLt and cuDNN share: every call counts, one may fail, and things made are counted. */
#ifndef DISTILL_TESTS_FAKE_H
#define DISTILL_TESTS_FAKE_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
/* The n-th call from now fails (0: none). */
void fake_fail_at(long n);
long fake_calls(void);  /* since fake_fail_at */
bool fake_failed(void); /* whether one did */
long fake_alive(void);  /* handles, descriptors and plans that were made and not freed */
#ifdef __cplusplus
}
/* For the twins: whether this call is to fail; counts one made (1) or freed (-1). */
bool fake_fails();
void fake_count(long made);
#endif

#endif

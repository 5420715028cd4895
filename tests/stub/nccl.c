/* nccl.c - a library that `distill doctor` takes for NCCL 2.28.9. */
int ncclGetVersion(int *version);
int ncclGetVersion(int *version)
{
    *version = 22809;
    return 0;
}

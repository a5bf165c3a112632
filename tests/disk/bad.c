/* A bad disk. While the file that HANGING_DISK names exists, nothing is flushed; while
   the one that FULL_DISK names exists, nothing is written to files that grow by offsets.
   Loaded before the C library (LD_PRELOAD). */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int is(const char *name)
{
    const char *path = getenv(name);
    return path && access(path, F_OK) == 0;
}

static void hang(void)
{
    while (is("HANGING_DISK"))
        usleep(10 * 1000);
}

int fdatasync(int file)
{
    hang();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file)
{
    hang();
    return (int)syscall(SYS_fsync, file);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset)
{
    if (is("FULL_DISK")) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, file, bytes, count, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
    return pwrite64(file, bytes, count, offset);
}

/* Shifts the wall clock of a program by the seconds in $WALL_CLOCK_FILE, through LD_PRELOAD. The monotonic clock stays
 * unchanged. libfaketime does more, but hangs at the start of programs with jemalloc. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("WALL_CLOCK_FILE");
    if (failed || !path || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return (int)failed;
    char offset[32] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, offset, sizeof offset - 1) > 0) now->tv_sec += atol(offset);
    close(file);
    return 0;
}

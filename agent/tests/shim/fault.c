// A disk that refuses, loaded before the shim. The file named by SHIM_FAULT says what: "sync 5" is an
// EIO of fdatasync, "write 122" an EDQUOT of pwrite, "hang 1" a disk that does not answer an fdatasync as
// long as it says so; an empty or missing file is a good disk.
// What a refused sync was to save is lost, as it may be with a real disk: it is overwritten.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct { ino_t file; off_t size; } synced[64];

static int fault(const char *what) {
    const char *path = getenv("SHIM_FAULT");
    char text[32] = "", name[16] = "";
    int error = 0, fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) > 0) sscanf(text, "%15s %d", name, &error);
    close(fd);
    return strcmp(name, what) == 0 ? error : 0;
}

static off_t *synced_of(ino_t file) {
    for (int n = 0; n < 64; n++) {
        if (!synced[n].file) synced[n].file = file;
        if (synced[n].file == file) return &synced[n].size;
    }
    abort();
}

int fdatasync(int fd) {
    struct stat file;
    while (fault("hang")) usleep(10000);
    int error = fault("sync");
    // Only what is appended to: the record is written in place.
    int appended = fstat(fd, &file) == 0 && file.st_size != 4096;
    off_t *size = appended ? synced_of(file.st_ino) : NULL;
    if (error) {
        char lost[4096];
        memset(lost, 0xff, sizeof lost);
        for (off_t at = size ? *size : file.st_size; at < file.st_size; at += sizeof lost) {
            off_t left = file.st_size - at;
            syscall(SYS_pwrite64, fd, lost, left < (off_t)sizeof lost ? left : (off_t)sizeof lost, at);
        }
        errno = error;
        return -1;
    }
    if (size) *size = file.st_size;
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) {
    struct stat file;
    int error = fault("write");
    // Blocks that a file has already can be written on any disk but a read-only one.
    if (error && (error == EROFS || fstat(fd, &file) < 0 || file.st_size != 4096)) {
        errno = error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

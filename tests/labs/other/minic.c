/*
 * minic: the contract of the labs, steps 1 to 4, in one file of C.
 *
 * It is here to show that the contract is enough: nothing is shared with the
 * Rust steps, and the way of doing things is often another. It calls ip(8) and
 * nft(8) for the network, busybox(1) is its default root file system, and what
 * a container has on the host is all named after one number, its slot:
 *
 *   /run/minidocker/minic/7      locked (flock) for as long as minic lives
 *   /run/minidocker/minic/7.d/   the container's hosts, hostname, resolv.conf
 *   minic-7                      its cgroup; its link on the bridge minic0
 *   10.77.0.7                    its address
 *   table ip minic-7             its published ports
 *
 * A slot whose lock can be taken belongs to nobody that lives: the next minic
 * removes all of these before it does anything else.
 *
 *   cc -O1 -Wall -Wextra -Werror -static -o minic minic.c
 *
 * Step 5 is left out. With -DSTEP=2 it is what a student has after step 2.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef STEP
#define STEP 4
#endif

enum { ENGINE_FAILED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };
enum { MOST = 32, FIRST_SLOT = 2, LAST_SLOT = 254 };

#define BRIDGE "minic0"
#define SUBNET "10.77.0"
#define PATH_INSIDE "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct volume {
    const char *source, *target;
    bool read_only;
};

struct port {
    const char *address, *protocol; /* a null address means: any of this host's */
    unsigned host, container;
};

static struct {
    const char *hostname, *rootfs, *memory, *cpus, *pids, *network;
    bool read_only;
    struct volume volumes[MOST];
    struct port ports[MOST];
    int volume_count, port_count;
    char **command;
} options = {.network = "bridge"};

/* What this container has on the host. */
static struct {
    char run[512];    /* where slots are, and the lock over all of them */
    int slot;         /* 0: none yet */
    char cgroup[512]; /* where cgroups are made; "" where none can be */
    bool user_namespace, bridge;
    pid_t child;
    pid_t watcher;
    int leash; /* the watcher's pipe; -1: there is none */
} own = {.leash = -1};

static bool inside; /* whether this process is the container's */

/* ------------------------------------------------------------- in general */

static void tear_down(int slot);

__attribute__((noreturn, format(printf, 2, 3))) static void
die(int status, const char *format, ...)
{
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("minic: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
    if (inside)
        _exit(status);
    if (own.child > 0) {
        kill(own.child, SIGKILL);
        waitpid(own.child, NULL, 0);
    }
    if (own.slot > 0)
        tear_down(own.slot);
    exit(status);
}

/* Formats into one of a few buffers that take turns. */
__attribute__((format(printf, 1, 2))) static const char *text(const char *format, ...)
{
    static char buffers[8][4096];
    static unsigned turn;
    char *buffer = buffers[turn++ % 8];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffers[0], format, arguments);
    va_end(arguments);
    return buffer;
}

static bool try_write(const char *path, const char *content)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = (ssize_t)strlen(content);
    bool done = write(fd, content, (size_t)length) == length;
    int error = errno;
    close(fd);
    errno = error;
    return done;
}

static void write_file(const char *path, const char *content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, content, strlen(content)) < 0)
        die(ENGINE_FAILED, "write %s", path);
    close(fd);
}

static const char *read_file(const char *path)
{
    static char content[16384];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, content, sizeof content - 1);
    if (fd >= 0)
        close(fd);
    content[length > 0 ? length : 0] = 0;
    return content;
}

/* Runs a line of shell. What stands in it is ours: no word of the caller's,
   who could have it mean anything. */
static bool shell(const char *line)
{
    int status = system(line);
    errno = 0;
    return status == 0;
}

/* mkdir -p of a directory, or of the place for a file. */
static void make_place(const char *path, bool is_directory)
{
    char part[4096];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            die(ENGINE_FAILED, "make the directory %s", part);
    }
    if (access(path, F_OK) == 0)
        return;
    int made = is_directory ? mkdir(path, 0755) : open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (made < 0 && errno != EEXIST)
        die(ENGINE_FAILED, "make %s", path);
    if (!is_directory && made >= 0)
        close(made);
}

static bool may_make(const char *path)
{
    char line[600];
    snprintf(line, sizeof line, "%s", path);
    for (char *slash = line + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(line, 0755);
    }
    mkdir(path, 0755);
    errno = 0;
    return access(path, R_OK | W_OK | X_OK) == 0;
}

/* A directory of minidocker's: the machine's, or where that is not ours to
   write, the caller's. */
static const char *state(const char *machines, const char *variable, const char *otherwise)
{
    const char *path = text("%s/minidocker/minic", machines);
    if (may_make(path))
        return path;
    const char *callers = getenv(variable), *home = getenv("HOME");
    path = callers ? text("%s/minidocker/minic", callers)
                   : text("%s/%s/minidocker/minic", home ? home : "/tmp", otherwise);
    if (may_make(path))
        return path;
    die(ENGINE_FAILED, "%s cannot be written; set %s", path, variable);
}

/* ---------------------------------------------------------- the command line */

static unsigned port_number(const char *digits)
{
    char *end;
    unsigned long number = strtoul(digits, &end, 10);
    errno = 0;
    if (*digits < '0' || *digits > '9' || *end || number < 1 || number > 65535)
        die(ENGINE_FAILED, "%s is no port: write -p [IP:]HOST:CONTAINER[/udp]", digits);
    return (unsigned)number;
}

static void parse_port(char *word)
{
    struct port *port = &options.ports[options.port_count++];
    char *slash = strchr(word, '/'), *last = strrchr(word, ':');
    port->protocol = slash ? slash + 1 : "tcp";
    if (slash)
        *slash = 0;
    if (!last || options.port_count == MOST ||
        (strcmp(port->protocol, "tcp") && strcmp(port->protocol, "udp")))
        die(ENGINE_FAILED, "%s: write -p [IP:]HOST:CONTAINER[/udp]", word);
    *last = 0;
    port->container = port_number(last + 1);
    char *first = strrchr(word, ':');
    port->host = port_number(first ? first + 1 : word);
    struct in_addr address;
    if (first) {
        *first = 0;
        if (inet_pton(AF_INET, word, &address) != 1)
            die(ENGINE_FAILED, "%s is no IPv4 address", word);
        port->address = address.s_addr ? word : NULL;
    }
}

static void parse_volume(char *word)
{
    struct volume *volume = &options.volumes[options.volume_count++];
    char *first = strchr(word, ':'), *second = first ? strchr(first + 1, ':') : NULL;
    if (second)
        *second = 0;
    volume->read_only = second && !strcmp(second + 1, "ro");
    if (!first || first[1] != '/' || options.volume_count == MOST / 2 ||
        (second && !volume->read_only && strcmp(second + 1, "rw")))
        die(ENGINE_FAILED, "%s: write -v SRC:/DST or -v SRC:/DST:ro", word);
    *first = 0;
    volume->source = word;
    volume->target = first + 1;
}

/* Says so where an option, or a part of the contract, is of a later step. */
static void needs(int step, const char *task)
{
    errno = 0;
    if (STEP < step)
        die(ENGINE_FAILED, "not yet implemented: task %s", task);
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"hostname", 1, 0, 'h'}, {"rootfs", 1, 0, 'r'},  {"volume", 1, 0, 'v'},
        {"read-only", 0, 0, 'R'}, {"memory", 1, 0, 'm'}, {"cpus", 1, 0, 'c'},
        {"pids-limit", 1, 0, 'l'}, {"network", 1, 0, 'n'}, {"publish", 1, 0, 'p'},
        {0, 0, 0, 0},
    };
    errno = 0;
    if (argc > 1 && (!strcmp(argv[1], "load") || !strcmp(argv[1], "images") || !strcmp(argv[1], "rmi")))
        needs(5, "05.2");
    if (argc < 2 || strcmp(argv[1], "run"))
        die(ENGINE_FAILED, "usage: minic run [OPTIONS] [--] COMMAND [ARG]...");
    optind = 2;
    /* "+": options end at the first word that is none. */
    for (int option; (option = getopt_long(argc, argv, "+v:m:p:", known, NULL)) != -1;) {
        switch (option) {
        case 'h': options.hostname = optarg; break;
        case 'r': needs(2, "02.1"); options.rootfs = optarg; break;
        case 'R': needs(2, "02.4"); options.read_only = true; break;
        case 'v': needs(2, "02.5"); parse_volume(optarg); break;
        case 'm': needs(3, "03.1"); options.memory = optarg; break;
        case 'c': needs(3, "03.3"); options.cpus = optarg; break;
        case 'l': needs(3, "03.3"); options.pids = optarg; break;
        case 'n': needs(4, "04.2"); options.network = optarg; break;
        case 'p': needs(4, "04.5"); parse_port(optarg); break;
        default: exit(ENGINE_FAILED); /* getopt_long(3) has said why */
        }
    }
    options.command = argv + optind;
    if (!options.command[0])
        die(ENGINE_FAILED, "no command was given");
    if (options.hostname && (!*options.hostname || strlen(options.hostname) > 64))
        die(ENGINE_FAILED, "a hostname has 1 to 64 bytes");
    const char *mode = options.network;
    if (strcmp(mode, "bridge") && strcmp(mode, "host") && strcmp(mode, "none"))
        die(ENGINE_FAILED, "%s is no network: bridge, host or none", mode);
}

/* ------------------------------------------------------------------- slots */

/* Held by whoever makes or removes what is named after a slot. */
static int lock = -1;

static void take_lock(void)
{
    if (lock < 0 && (lock = open(text("%s/lock", own.run), O_CREAT | O_RDWR | O_CLOEXEC, 0600)) < 0)
        die(ENGINE_FAILED, "open %s/lock", own.run);
    if (flock(lock, LOCK_EX) < 0)
        die(ENGINE_FAILED, "lock %s/lock", own.run);
}

static void give_lock(void)
{
    flock(lock, LOCK_UN);
}

static bool is_living(int slot)
{
    int fd = open(text("%s/%d", own.run, slot), O_RDWR | O_CLOEXEC);
    bool taken = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (fd >= 0)
        close(fd);
    return taken;
}

/* Removes what dead ones left, then takes the first free slot; its lock is let
   go by the kernel, however this process ends. */
static void take_slot(void)
{
    int free_slot = 0;
    take_lock();
    for (int slot = LAST_SLOT; slot >= FIRST_SLOT; slot--) {
        if (is_living(slot))
            continue;
        if (access(text("%s/%d", own.run, slot), F_OK) == 0)
            tear_down(slot);
        free_slot = slot;
    }
    errno = 0;
    if (!free_slot)
        die(ENGINE_FAILED, "all addresses of " SUBNET ".0/24 are in use");
    int fd = open(text("%s/%d", own.run, free_slot), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        die(ENGINE_FAILED, "take slot %d", free_slot);
    own.slot = free_slot;
    give_lock();
}

/* ----------------------------------------------------------- users (step 1) */

/* Whether we may make namespaces without a user namespace around them. */
static bool is_privileged(void)
{
    const char *line = strstr(read_file("/proc/self/status"), "CapEff:");
    unsigned long long capabilities = line ? strtoull(line + 7, NULL, 16) : 0;
    return geteuid() == 0 && (capabilities >> 21 & 1); /* CAP_SYS_ADMIN */
}

/* The caller is root inside. With no helper we may map no other id. */
static void map_ids(pid_t child)
{
    write_file(text("/proc/%d/setgroups", child), "deny");
    write_file(text("/proc/%d/uid_map", child), text("0 %u 1", geteuid()));
    write_file(text("/proc/%d/gid_map", child), text("0 %u 1", getegid()));
}

/* ---------------------------------------------------------- files (step 2) */

/* A root file system made once, of one program with many names. */
static const char *default_root(void)
{
    const char *root = strdup(text("%s/root", state("/var/lib", "XDG_DATA_HOME", ".local/share")));
    if (access(text("%s/bin/sh", root), X_OK) == 0)
        return root;
    const char *new = strdup(text("%s.%d", root, getpid()));
    setenv("NEW", new, 1);
    bool made = shell("set -e; cd \"$(dirname $NEW)\"; mkdir $NEW; cd $NEW\n"
                      "mkdir bin etc root tmp usr usr/bin usr/sbin sbin var home mnt proc dev sys run\n"
                      "chmod 1777 tmp; cp $(command -v busybox) bin/busybox\n"
                      "echo root:x:0:0:root:/root:/bin/sh >etc/passwd; echo root:x:0: >etc/group\n");
    FILE *names = made ? popen("busybox --list", "re") : NULL;
    for (char name[64]; names && fscanf(names, "%63s", name) == 1;)
        if (symlink("busybox", text("%s/bin/%s", new, name)) < 0 && errno != EEXIST)
            made = false;
    errno = 0;
    if (!names || pclose(names) != 0 || !made)
        die(ENGINE_FAILED, "make %s (is busybox-static installed? or give --rootfs DIR)", root);
    if (rename(new, root) < 0)
        shell("rm -r $NEW"); /* somebody was faster */
    return root;
}

static void attach(const char *type, const char *target, unsigned long flags, const char *data)
{
    struct stat there;
    make_place(target, true);
    if (lstat(target, &there) < 0 || !S_ISDIR(there.st_mode))
        die(ENGINE_FAILED, "%s must be a directory and no link", target);
    if (mount(type, target, type, flags, data) < 0)
        die(ENGINE_FAILED, "mount %s on %s", type, target);
}

static void make_devices(const char *root)
{
    static const struct { const char *name; unsigned major, minor; } devices[] = {
        {"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
        {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
    };
    attach("tmpfs", text("%s/dev", root), MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        const char *path = text("%s/dev/%s", root, devices[i].name);
        if (mknod(path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)) == 0)
            continue;
        /* No user namespace may make devices: borrow the host's. */
        make_place(path, false);
        if (mount(text("/dev/%s", devices[i].name), path, NULL, MS_BIND, NULL) < 0)
            die(ENGINE_FAILED, "make /dev/%s", devices[i].name);
    }
    unsigned long quiet = MS_NOSUID | MS_NOEXEC;
    attach("devpts", text("%s/dev/pts", root), quiet, "newinstance,ptmxmode=0666,mode=620");
    attach("tmpfs", text("%s/dev/shm", root), quiet | MS_NODEV, "mode=1777,size=65536k");
    attach("mqueue", text("%s/dev/mqueue", root), quiet | MS_NODEV, NULL);
    if (symlink("pts/ptmx", text("%s/dev/ptmx", root)) < 0 ||
        symlink("/proc/self/fd", text("%s/dev/fd", root)) < 0 ||
        symlink("/proc/self/fd/0", text("%s/dev/stdin", root)) < 0 ||
        symlink("/proc/self/fd/1", text("%s/dev/stdout", root)) < 0 ||
        symlink("/proc/self/fd/2", text("%s/dev/stderr", root)) < 0)
        die(ENGINE_FAILED, "make the links in /dev");
}

static void set_read_only(int tree, unsigned flags)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    if (mount_setattr(tree, "", AT_EMPTY_PATH | flags, &attributes, sizeof attributes) < 0)
        die(ENGINE_FAILED, "make a mount read-only");
}

/* A copy of a volume's mounts, attached nowhere yet: taken while the host's
   files can still be named. */
static int hold(const struct volume *volume)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
    int tree = open_tree(AT_FDCWD, volume->source, flags);
    if (tree < 0)
        die(ENGINE_FAILED, "share %s", volume->source);
    if (volume->read_only)
        set_read_only(tree, AT_RECURSIVE);
    return tree;
}

/* Puts it in its place: the host's files are gone by now, so that no link in
   the container's can lead there. */
static void place(int tree, const struct volume *volume)
{
    struct stat what;
    if (fstat(tree, &what) < 0)
        die(ENGINE_FAILED, "look at %s", volume->source);
    make_place(volume->target, S_ISDIR(what.st_mode));
    if (move_mount(tree, "", AT_FDCWD, volume->target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        die(ENGINE_FAILED, "mount %s on %s", volume->source, volume->target);
}

static void enter_root(void)
{
    char root[4096];
    int trees[MOST];
    for (int i = 0; i < options.volume_count; i++)
        trees[i] = hold(&options.volumes[i]);
    if (!realpath(options.rootfs, root))
        die(ENGINE_FAILED, "use %s as the root", options.rootfs);

    /* A mount point, as pivot_root(2) wants it. */
    if (mount(root, root, NULL, MS_BIND | MS_REC, NULL) < 0)
        die(ENGINE_FAILED, "bind %s", root);
    unsigned long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    attach("proc", text("%s/proc", root), quiet, NULL);
    const char *sys = text("%s/sys", root);
    make_place(sys, true);
    /* sysfs belongs to a network: the host's is not ours to mount. */
    if (mount("sysfs", sys, "sysfs", quiet | MS_RDONLY, NULL) < 0) {
        struct volume hosts = {"/sys", "/sys", true};
        if (move_mount(hold(&hosts), "", AT_FDCWD, sys, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            die(ENGINE_FAILED, "mount sysfs");
    }
    make_devices(root);

    /* The new root with the old one on top of it, which then goes. */
    if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        die(ENGINE_FAILED, "swap the roots");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        die(ENGINE_FAILED, "let go of the host's root");

    for (int i = 0; i < options.volume_count; i++)
        place(trees[i], &options.volumes[i]);
    if (options.read_only)
        set_read_only(open("/", O_PATH | O_CLOEXEC), 0);
}

/* --------------------------------------------------------- limits (step 3) */

/* Finds where we may make cgroups: the topmost directory above our own that is
   ours to write, or the root of the tree. */
static void find_cgroups(void)
{
    char mounts[16384], top[512] = "", path[1024] = "";
    snprintf(mounts, sizeof mounts, "%s", read_file("/proc/self/mountinfo"));
    for (char *line = strtok(mounts, "\n"); line; line = strtok(NULL, "\n"))
        if (strstr(line, " - cgroup2 "))
            sscanf(line, "%*s %*s %*s %*s %511s", top);
    const char *mine = strstr(read_file("/proc/self/cgroup"), "0::");
    if (!*top || !mine)
        return;
    snprintf(path, sizeof path, "%s%.*s", top, (int)strcspn(mine + 3, "\n"), mine + 3);
    for (char *end; strlen(path) >= strlen(top); *end = 0) {
        bool is_ours = access(path, W_OK) == 0 && access(text("%s/cgroup.procs", path), W_OK) == 0;
        if (is_ours)
            snprintf(own.cgroup, sizeof own.cgroup, "%.500s", path);
        end = strrchr(path, '/');
    }
}

static void limit(const char *directory, const char *controller, const char *file, const char *value)
{
    errno = 0;
    if (!*own.cgroup)
        die(ENGINE_FAILED, "limit %s: no cgroup of version 2 can be made here", controller);
    if (!strstr(read_file(text("%s/cgroup.controllers", own.cgroup)), controller))
        die(ENGINE_FAILED, "limit %s: %s does not have this controller", controller, own.cgroup);
    if (!try_write(text("%s/cgroup.subtree_control", own.cgroup), text("+%s", controller)))
        die(ENGINE_FAILED, "enable %s in %s", controller, own.cgroup);
    if (!try_write(text("%s/%s", directory, file), value))
        die(ENGINE_FAILED, "write %s to %s", value, file);
}

/* 64m, 1.5g: docker's notation, each unit 1024 times the last. */
static const char *bytes(const char *word)
{
    static const char units[] = "bkmg";
    unsigned long long number = 0, parts = 1;
    const char *rest = word;
    for (bool point = false; (*rest >= '0' && *rest <= '9') || (*rest == '.' && !point); rest++) {
        if (*rest == '.') {
            point = true;
            continue;
        }
        number = number * 10 + (unsigned)(*rest - '0');
        parts *= point ? 10 : 1;
        if (number > 1000000000000000 || parts > 1000000)
            break; /* at a digit, and so no size */
    }
    const char *unit = *rest ? strchr(units, *rest | 0x20) : units;
    errno = 0;
    if (!number || !unit || (*rest && rest[1]))
        die(ENGINE_FAILED, "%s is no size: write 64m or 1.5g", word);
    unsigned __int128 size = ((unsigned __int128)number << 10 * (unit - units)) / parts;
    if (size < 4096 || size > INT64_MAX)
        die(ENGINE_FAILED, "%s is no size that memory can have", word);
    return text("%llu", (unsigned long long)size);
}

static const char *quota(const char *word)
{
    char *end;
    double processors = strtod(word, &end);
    errno = 0;
    if (*end || !(processors >= 0.01) || processors > 4096)
        die(ENGINE_FAILED, "%s is no number of processors: write 0.5", word);
    return text("%.0f 100000", processors * 100000);
}

static void make_cgroup(void)
{
    const char *path = text("%s/minic-%d", own.cgroup, own.slot);
    if (*own.cgroup && mkdir(path, 0755) < 0 && errno != EEXIST)
        die(ENGINE_FAILED, "make %s", path);
}

/* In force before anybody is in the cgroup. */
static void set_limits(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/minic-%d", own.cgroup, own.slot);
    if (options.memory) {
        limit(path, "memory", "memory.max", bytes(options.memory));
        /* Without swap, or the rest would go there. */
        try_write(text("%s/memory.swap.max", path), "0");
    }
    if (options.cpus)
        limit(path, "cpu", "cpu.max", quota(options.cpus));
    if (options.pids)
        limit(path, "pids", "pids.max", options.pids);
}

static void join_cgroup(pid_t child)
{
    if (*own.cgroup &&
        !try_write(text("%s/minic-%d/cgroup.procs", own.cgroup, own.slot), text("%d", child)))
        die(ENGINE_FAILED, "move the container into its cgroup");
}

static void report_oom(void)
{
    const char *events = read_file(text("%s/minic-%d/memory.events", own.cgroup, own.slot));
    const char *kills = strstr(events, "oom_kill ");
    if (options.memory && kills && atoi(kills + 9) > 0)
        fprintf(stderr, "minic: out of memory: the kernel killed a process at the limit of %s\n",
                options.memory);
}

/* A container may have made cgroups in its own: the deepest go first. */
static void remove_tree(const char *path)
{
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char below[4096];
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_DIR && *entry->d_name != '.')
            remove_tree(below);
    }
    if (directory)
        closedir(directory);
    /* Busy for a moment after the last process in it was killed. */
    for (int attempt = 0; attempt < 500 && rmdir(path) < 0 && errno == EBUSY; attempt++)
        usleep(10000);
}

static void remove_cgroup(int slot)
{
    char path[600];
    snprintf(path, sizeof path, "%s/minic-%d", own.cgroup, slot);
    if (!*own.cgroup || access(path, F_OK) < 0)
        return;
    try_write(text("%s/cgroup.kill", path), "1");
    remove_tree(path);
}

/* -------------------------------------------------------- network (step 4) */

/* Holds the port for as long as we live, so that no other program, and no
   other container, can be given it. */
static void reserve(const struct port *port)
{
    bool is_tcp = !strcmp(port->protocol, "tcp");
    int fd = socket(AF_INET, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port->host)};
    inet_pton(AF_INET, port->address ? port->address : "0.0.0.0", &here.sin_addr);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || (is_tcp && listen(fd, 1) < 0))
        die(ENGINE_FAILED, "publish port %u", port->host);
}

static void make_bridge(void)
{
    /* Answers to 127.0.0.1 must find back over the bridge: route_localnet. */
    bool done = shell(
        "set -e\n"
        "if ! ip link show " BRIDGE " >/dev/null 2>&1; then\n"
        "  ip link add " BRIDGE " type bridge\n"
        "  ip address add " SUBNET ".1/24 dev " BRIDGE "\n"
        "  ip link set " BRIDGE " up\n"
        "fi\n"
        "echo 1 >/proc/sys/net/ipv4/ip_forward\n"
        "echo 1 >/proc/sys/net/ipv4/conf/" BRIDGE "/route_localnet\n"
        "nft list table ip minic >/dev/null 2>&1 || nft -f - <<END\n"
        "table ip minic {\n"
        "  chain guard { type filter hook prerouting priority -300;\n"
        "    iifname " BRIDGE " ip daddr 127.0.0.0/8 drop; }\n"
        "  chain postrouting { type nat hook postrouting priority 100;\n"
        "    ip saddr " SUBNET ".0/24 oifname != " BRIDGE " masquerade\n"
        "    ip saddr " SUBNET ".0/24 oifname " BRIDGE " ct status dnat masquerade\n"
        "    ip saddr 127.0.0.0/8 oifname " BRIDGE " masquerade; }\n"
        "}\n"
        "END\n");
    if (!done)
        die(ENGINE_FAILED, "make the bridge " BRIDGE "; ip and nft said why");
}

static void publish(void)
{
    char rules[8192] = "";
    size_t used = 0;
    for (int i = 0; i < options.port_count; i++) {
        const struct port *port = &options.ports[i];
        reserve(port);
        const char *to = port->address ? text("ip daddr %s", port->address) : "fib daddr type local";
        used += (size_t)snprintf(rules + used, sizeof rules - used, "%s %s dport %u dnat to %s.%d:%u\n",
                                 to, port->protocol, port->host, SUBNET, own.slot, port->container);
    }
    FILE *nft = options.port_count ? popen("nft -f -", "we") : NULL;
    if (!nft)
        return;
    fprintf(nft, "table ip minic-%d {\n", own.slot);
    fprintf(nft, "chain prerouting { type nat hook prerouting priority -100; %s }\n", rules);
    fprintf(nft, "chain output { type nat hook output priority -100; %s }\n}\n", rules);
    errno = 0;
    if (pclose(nft) != 0)
        die(ENGINE_FAILED, "publish the ports; nft said why");
}

/* Starts a process that ends another one when we do, even by SIGKILL: that
   closes our end of a pipe. */
static void watch(pid_t other)
{
    int ends[2];
    if (pipe(ends) < 0)
        die(ENGINE_FAILED, "make a pipe");
    pid_t watcher = fork();
    if (watcher < 0)
        die(ENGINE_FAILED, "fork");
    if (watcher == 0) {
        dup2(ends[0], 0);
        close_range(1, ~0U, 0); /* nobody shall wait for us to let go of these */
        char end;
        while (read(0, &end, 1) < 0)
            ;
        kill(other, SIGKILL);
        _exit(0);
    }
    close(ends[0]);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    own.leash = ends[1];
    own.watcher = watcher;
}

/* Without root the network is that of pasta(1), a program that carries what
   the container sends to sockets of the caller's. */
static void start_pasta(pid_t child)
{
    char ports[2][1024] = {"", ""};
    for (int i = 0; i < options.port_count; i++) {
        const struct port *port = &options.ports[i];
        char *list = ports[!strcmp(port->protocol, "udp")];
        size_t used = strlen(list);
        snprintf(list + used, sizeof ports[0] - used, "%s%s%s%u:%u", used ? "," : "",
                 port->address ? port->address : "", port->address ? "/" : "", port->host,
                 port->container);
    }
    const char *line = text(
        "exec pasta --quiet --ipv4-only --config-net --no-map-gw --ns-ifname eth0"
        " --address 10.0.2.100 --netmask 24 --gateway 10.0.2.2 --dns-forward 10.0.2.3"
        " --tcp-ports %s --udp-ports %s --tcp-ns none --udp-ns none --pid \"$RUN/%d.d/pasta\" %d"
        " 2>/dev/null",
        *ports[0] ? ports[0] : "none", *ports[1] ? ports[1] : "none", own.slot, child);
    setenv("RUN", own.run, 1);
    if (shell(line)) {
        watch(atoi(read_file(text("%s/%d.d/pasta", own.run, own.slot))));
        return;
    }
    if (options.port_count)
        die(ENGINE_FAILED, "publish ports: pasta (package passt) is missing, or finds no way out");
    fputs("minic: the container has only loopback: pasta is missing, or finds no way out\n", stderr);
}

/* From outside: the cable, and what answers for the container. */
static void connect_network(pid_t child)
{
    if (STEP < 4 || strcmp(options.network, "bridge"))
        return;
    if (own.user_namespace) {
        start_pasta(child);
        return;
    }
    take_lock();
    make_bridge();
    const char *line = text("ip link add minic-%d type veth peer name eth0 netns %d &&"
                            " ip link set minic-%d master " BRIDGE " up &&"
                            " ip link set minic-%d type bridge_slave hairpin on",
                            own.slot, child, own.slot, own.slot);
    if (!shell(line))
        die(ENGINE_FAILED, "plug the container into " BRIDGE "; ip said why");
    publish();
    give_lock();
}

/* In the container's network with the host's ip(8). By a process of ours: the
   container may not be allowed to fork. */
static void configure_network(pid_t child)
{
    if (STEP < 4 || !strcmp(options.network, "host"))
        return;
    const char *line = own.bridge ? text("ip link set lo up && ip link set eth0 up &&"
                                         " ip address add " SUBNET ".%d/24 dev eth0 &&"
                                         " ip route add default via " SUBNET ".1", own.slot)
                                  : "ip link set lo up";
    int status = 1;
    pid_t helper = fork();
    if (helper == 0) {
        inside = true;
        int users = open(text("/proc/%d/ns/user", child), O_RDONLY | O_CLOEXEC);
        int net = open(text("/proc/%d/ns/net", child), O_RDONLY | O_CLOEXEC);
        if ((own.user_namespace && setns(users, CLONE_NEWUSER) < 0) || setns(net, CLONE_NEWNET) < 0)
            die(ENGINE_FAILED, "join the container's network");
        _exit(shell(line) ? 0 : 1);
    }
    if (helper < 0 || waitpid(helper, &status, 0) != helper || status != 0)
        die(ENGINE_FAILED, "configure the network; ip said why");
}

/* The files that programs read to find others, as three more volumes. */
static void write_names(void)
{
    char directory[600], servers[2048] = "";
    snprintf(directory, sizeof directory, "%s/%d.d", own.run, own.slot);
    if (mkdir(directory, 0755) < 0 && errno != EEXIST)
        die(ENGINE_FAILED, "make %s", directory);
    const char *hosts = "127.0.0.1 localhost\n::1 localhost\n";
    if (own.bridge)
        hosts = text("%s" SUBNET ".%d %s\n", hosts, own.slot, options.hostname);
    write_file(text("%s/hosts", directory), hosts);
    write_file(text("%s/hostname", directory), text("%s\n", options.hostname));
    /* A server on the host's loopback is out of reach in here. */
    for (const char *line = read_file("/etc/resolv.conf"); *line; line += strcspn(line, "\n"), line += !!*line)
        if (strncmp(line, "nameserver 127.", 15) || !strcmp(options.network, "host"))
            snprintf(servers + strlen(servers), sizeof servers - strlen(servers), "%.*s\n",
                     (int)strcspn(line, "\n"), line);
    if (own.user_namespace && !strcmp(options.network, "bridge"))
        snprintf(servers, sizeof servers, "nameserver 10.0.2.3\n");
    else if (!strstr(servers, "nameserver"))
        strcat(servers, "nameserver 8.8.8.8\n");
    write_file(text("%s/resolv.conf", directory), servers);
    static const char *names[] = {"hosts", "hostname", "resolv.conf"};
    /* First of all volumes, so that the caller's own cover them. */
    memmove(options.volumes + 3, options.volumes, sizeof *options.volumes * (size_t)options.volume_count);
    options.volume_count += 3;
    for (int i = 0; i < 3; i++)
        options.volumes[i] = (struct volume){
            strdup(text("%s/%s", directory, names[i])), strdup(text("/etc/%s", names[i])), false};
}

/* -------------------------------------------------------------- the end of it */

/* Removes whatever is named after a slot, and with the last one the bridge.
   Nothing of it need be there. */
static void tear_down(int slot)
{
    take_lock();
    remove_cgroup(slot);
    bool alone = true;
    for (int other = FIRST_SLOT; other <= LAST_SLOT; other++)
        alone &= other == slot || !is_living(other);
    if (slot == own.slot && own.leash >= 0) {
        close(own.leash);
        waitpid(own.watcher, NULL, 0);
    }
    if (STEP >= 4 && !own.user_namespace)
        shell(text("exec 2>/dev/null\n"
                   "ip link del minic-%d; nft delete table ip minic-%d\n"
                   "if %s; then ip link del " BRIDGE "; nft delete table ip minic; fi\n"
                   "true", slot, slot, alone ? "true" : "false"));
    for (size_t i = 0; i < 4; i++)
        unlink(text("%s/%d.d/%s", own.run, slot,
                    (const char *[]){"hosts", "hostname", "resolv.conf", "pasta"}[i]));
    rmdir(text("%s/%d.d", own.run, slot));
    unlink(text("%s/%d", own.run, slot));
}

/* Waits for the container, and passes signals on. Pid 1 does not get one that
   it has no handler for (pid_namespaces(7)), so then we end it ourselves. */
static int wait_for(pid_t child, const sigset_t *signals)
{
    int status, ended_by = 0;
    for (;;) {
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child)
            break;
        int signal = sigwaitinfo(signals, NULL);
        if (signal < 0 || signal == SIGCHLD)
            continue;
        const char *state_of = read_file(text("/proc/%d/status", child));
        unsigned long long wanted = 0;
        static const char *sets[] = {"SigBlk:", "SigIgn:", "SigCgt:"};
        for (int i = 0; i < 3; i++) {
            const char *set = strstr(state_of, sets[i]);
            wanted |= set ? strtoull(set + 7, NULL, 16) : 0;
        }
        if (wanted >> (signal - 1) & 1) {
            kill(child, signal);
        } else {
            ended_by = signal;
            kill(child, SIGKILL);
        }
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return 128 + (ended_by ? ended_by : WTERMSIG(status));
}

/* -------------------------------------------------------- inside and outside */

/* Becomes the command, and returns only the status of a failure. */
static int execute(char **command)
{
    char *environment[] = {"PATH=" PATH_INSIDE, "HOME=/root",
                           strdup(text("HOSTNAME=%s", options.hostname)),
                           strdup(text("TERM=%s", getenv("TERM") ? getenv("TERM") : "dumb")), NULL};
    int error = ENOENT;
    if (strchr(command[0], '/')) {
        execve(command[0], command, environment);
        error = errno;
    }
    char directories[] = PATH_INSIDE;
    for (char *directory = strtok(directories, ":"); directory; directory = strtok(NULL, ":")) {
        struct stat file;
        const char *path = text("%s/%s", directory, command[0]);
        if (strchr(command[0], '/') || stat(path, &file) < 0 || S_ISDIR(file.st_mode))
            continue;
        execve(path, command, environment);
        error = errno;
    }
    errno = error;
    bool is_missing = error == ENOENT || error == ENOTDIR;
    die(is_missing ? NOT_FOUND : NOT_EXECUTABLE, "run %s", command[0]);
}

/* The container's first process, up to its command. */
__attribute__((noreturn)) static void live(int gate)
{
    char go;
    inside = true;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        die(ENGINE_FAILED, "ask to end with our parent");
    if (read(gate, &go, 1) != 1)
        _exit(ENGINE_FAILED); /* the parent is gone */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_DFL);

    if (unshare(CLONE_NEWCGROUP) < 0)
        die(ENGINE_FAILED, "make a cgroup namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die(ENGINE_FAILED, "make the mounts private");
    if (sethostname(options.hostname, strlen(options.hostname)) < 0)
        die(ENGINE_FAILED, "set the hostname");
    umask(0);
    if (STEP >= 2)
        enter_root();
    umask(022);
    if (close_range(3, ~0U, 0) < 0)
        die(ENGINE_FAILED, "close the host's files");
    errno = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(execute(options.command));
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    own.user_namespace = !is_privileged();
    own.bridge = !own.user_namespace && !strcmp(options.network, "bridge");
    snprintf(own.run, sizeof own.run, "%s", state("/run", "XDG_RUNTIME_DIR", ".cache"));
    if (STEP >= 2 && !options.rootfs)
        options.rootfs = default_root();
    uint32_t chance = 0;
    getrandom(&chance, sizeof chance, 0);
    if (!options.hostname)
        options.hostname = strdup(text("c%08x", chance));

    /* From here on a signal waits until there is a container to pass it to. */
    sigset_t signals;
    sigemptyset(&signals);
    signal(SIGCHLD, SIG_DFL);
    static const int passed[] = {SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        sigaddset(&signals, passed[i]);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    if (STEP >= 3)
        find_cgroups();
    take_slot();
    if (STEP >= 3) {
        make_cgroup();
        set_limits();
    }
    if (STEP >= 4)
        write_names();

    unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC;
    if (strcmp(options.network, "host"))
        flags |= CLONE_NEWNET;
    if (own.user_namespace)
        flags |= CLONE_NEWUSER;
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) < 0)
        die(ENGINE_FAILED, "make a pipe");
    own.child = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (own.child < 0)
        die(ENGINE_FAILED, "make the namespaces");
    if (own.child == 0) {
        close(gate[1]);
        live(gate[0]);
    }
    if (own.user_namespace)
        map_ids(own.child);
    join_cgroup(own.child);
    connect_network(own.child);
    configure_network(own.child);
    if (write(gate[1], "!", 1) != 1)
        die(ENGINE_FAILED, "open the gate");

    int status = wait_for(own.child, &signals);
    report_oom();
    tear_down(own.slot);
    return status;
}

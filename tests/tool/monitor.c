/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * monitor.c - stands in for Firecracker: maps memory, registers it, sends the handshake, then is its guest: threads
 * that read, write and give back pages, by themselves and by system calls, and know what each byte has to be.
 *
 * monitor SOCKET IMAGE [threads=N] [ops=N] [seed=N] [page=BYTES] [pieces=N] [only=1] [wait=1] [stay=1] [check=0]
 *	only	closes its own userfaultfd: what the handler loses is lost
 *	wait	begins when a line comes on standard input; stay: ends when that is closed; check=0: not all pages are
 *		looked at in the end
 * Exit status: 0 well, 1 wrong bytes, 2 it could not begin, 7 SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define THREADS_MAX 16
#define PIECES_MAX 8

static struct {
	uint64_t threads;
	uint64_t ops;
	uint64_t seed;
	uint64_t page;
	uint64_t pieces;
	uint64_t only;
	uint64_t wait;
	uint64_t stay;
	uint64_t check;
} opt = {.check = 1, .threads = 2, .ops = 2000, .seed = 1, .page = 4096, .pieces = 2};

static const uint8_t *image;
static uint64_t len;
static uint8_t *piece[PIECES_MAX];
static uint64_t piece_len;

enum known { FROM_IMAGE, ZERO, WRITTEN };

struct lane {
	pthread_t thread;
	uint64_t number;
	uint64_t random;
	uint64_t wrong;
	uint8_t *known;
	uint64_t *value;
};

static void die(const char *what)
{
	fprintf(stderr, "monitor: %s: %s\n", what, strerror(errno));
	_exit(2);
}

static uint64_t next(struct lane *l)
{
	uint64_t z = (l->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint8_t *at(uint64_t offset)
{
	return piece[offset / piece_len] + offset % piece_len;
}

/* ---- the guest ---- */

static bool is_right(const struct lane *l, uint64_t page)
{
	const uint8_t *is = at(page * opt.page);
	static const uint8_t zeros[4096];
	uint64_t value = l->value[page];

	if (l->known[page] == WRITTEN)
		return memcmp(is, &value, sizeof(value)) == 0;
	if (l->known[page] == FROM_IMAGE)
		return memcmp(is, image + page * opt.page, opt.page) == 0;
	for (uint64_t i = 0; i < opt.page; i += sizeof(zeros)) {
		if (memcmp(is + i, zeros, sizeof(zeros)) != 0)
			return false;
	}
	return true;
}

static void check(struct lane *l, uint64_t page)
{
	if (is_right(l, page))
		return;
	l->wrong++;
	fprintf(stderr, "monitor: page %lu, state %u, first word %lx\n", (unsigned long)page,
		l->known[page], *(unsigned long *)at(page * opt.page));
}

/* A device: the kernel touches the page. */
static void read_into(struct lane *l, uint64_t page)
{
	uint64_t value = next(l);
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) || write(pipes[1], &value, sizeof(value)) != sizeof(value) ||
		read(pipes[0], at(page * opt.page), sizeof(value)) != sizeof(value))
		l->wrong++;
	close(pipes[0]);
	close(pipes[1]);
	l->known[page] = WRITTEN;
	l->value[page] = value;
}

static void *work(void *arg)
{
	struct lane *l = arg;
	uint64_t pages = len / opt.page;

	for (uint64_t op = 0; op < opt.ops; op++) {
		uint64_t page = next(l) % pages / opt.threads * opt.threads + l->number;
		uint64_t value;

		if (page >= pages)
			continue;
		switch (next(l) % 8) {
		case 0:
		case 1:
			l->wrong += madvise(at(page * opt.page), opt.page, MADV_DONTNEED) != 0;
			l->known[page] = ZERO;
			break;
		case 2:
			value = next(l);
			memcpy(at(page * opt.page), &value, sizeof(value));
			l->known[page] = WRITTEN;
			l->value[page] = value;
			break;
		case 3:
			read_into(l, page);
			break;
		default:
			check(l, page);
		}
	}
	for (uint64_t page = l->number; opt.check && page < pages; page += opt.threads)
		check(l, page);
	return NULL;
}

/* ---- memory and handshake ---- */

static int make_memory(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd");
	if (opt.page > 4096)
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	piece_len = len / opt.pieces;
	for (uint64_t i = 0; i < opt.pieces; i++) {
		struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

		piece[i] = mmap(NULL, piece_len, PROT_READ | PROT_WRITE, flags, -1, 0);
		if (piece[i] == MAP_FAILED)
			die("mmap");
		reg.range = (struct uffdio_range){(uintptr_t)piece[i], piece_len};
		if (ioctl(uffd, UFFDIO_REGISTER, &reg))
			die("UFFDIO_REGISTER");
	}
	return uffd;
}

static void shake_hands(const char *path, int uffd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char text[4096];
	size_t nr = 0;
	struct iovec iov = {.iov_base = text};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	for (uint64_t i = 0; i < opt.pieces; i++)
		nr += (size_t)snprintf(text + nr, sizeof(text) - nr,
			"%c{\"base_host_virt_addr\":%lu,\"size\":%lu,\"offset\":%lu,"
			"\"page_size\":%lu,\"page_size_kib\":%lu}",
			i ? ',' : '[', (unsigned long)(uintptr_t)piece[i], (unsigned long)piece_len,
			(unsigned long)(i * piece_len), (unsigned long)opt.page,
			(unsigned long)opt.page);
	text[nr++] = ']';
	iov.iov_len = nr;
	msg.msg_control = &control;
	msg.msg_controllen = sizeof(control);
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &uffd, sizeof(int));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)))
		die(path);
	if (sendmsg(sock, &msg, 0) != (ssize_t)nr)
		die("sendmsg");
	close(sock);
}

static void on_sigbus(int sig)
{
	(void)sig;
	_exit(7);
}

static void take_option(const char *word)
{
	static const struct {
		const char *name;
		uint64_t *value;
	} known[] = {{"threads=", &opt.threads}, {"ops=", &opt.ops}, {"seed=", &opt.seed},
		{"page=", &opt.page}, {"pieces=", &opt.pieces}, {"only=", &opt.only},
		{"wait=", &opt.wait}, {"stay=", &opt.stay}, {"check=", &opt.check}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strncmp(word, known[i].name, strlen(known[i].name)) == 0) {
			*known[i].value = strtoull(word + strlen(known[i].name), NULL, 0);
			return;
		}
	}
	errno = EINVAL;
	die(word);
}

static void open_image(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	len = (uint64_t)st.st_size;
	image = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (image == MAP_FAILED || opt.threads > THREADS_MAX || opt.pieces > PIECES_MAX ||
		len % (opt.pieces * opt.page))
		die("image");
	close(fd);
}

static uint64_t run(void)
{
	static struct lane lanes[THREADS_MAX];
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < opt.threads; i++) {
		lanes[i].number = i;
		lanes[i].random = opt.seed * THREADS_MAX + i;
		lanes[i].known = calloc(len / opt.page, 1);
		lanes[i].value = calloc(len / opt.page, sizeof(uint64_t));
		if (!lanes[i].known || !lanes[i].value ||
			pthread_create(&lanes[i].thread, NULL, work, &lanes[i]))
			die("threads");
	}
	for (uint64_t i = 0; i < opt.threads; i++) {
		pthread_join(lanes[i].thread, NULL);
		wrong += lanes[i].wrong;
		free(lanes[i].known);
		free(lanes[i].value);
	}
	return wrong;
}

int main(int argc, char **argv)
{
	char line[16];
	uint64_t wrong;
	int uffd;

	if (argc < 3)
		return 2;
	for (int i = 3; i < argc; i++)
		take_option(argv[i]);
	signal(SIGBUS, on_sigbus);
	open_image(argv[2]);
	uffd = make_memory();
	shake_hands(argv[1], uffd);
	if (opt.only)
		close(uffd);
	printf("ready\n");
	fflush(stdout);
	if (opt.wait && !fgets(line, sizeof(line), stdin))
		return 0;
	wrong = run();
	printf("wrong %lu ops %lu\n", (unsigned long)wrong, (unsigned long)(opt.ops * opt.threads));
	fflush(stdout);
	while (opt.stay && fgets(line, sizeof(line), stdin))
		;
	return wrong != 0;
}

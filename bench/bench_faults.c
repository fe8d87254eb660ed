/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_faults.c - how long single faults take: quantiles against loops of the bare calls, ways of waiting against each
 * other, beside idle userfaultfds, in two threads.
 *
 * Samples of both sides alternate; a row is the median of the ratios of neighbours, in thousandths, so that it needs no
 * quiet machine.
 *
 * usage: bench_faults [--json FILE]
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define PAGE 4096u
#define FAULTS 2048u
#define LEN (FAULTS * PAGE)
#define ROUNDS 25
#define IDLE 1000u

enum who { BARE, OURS, OURS_BESIDE_IDLE };

struct side {
	enum who who;
	uint32_t wait;
	bool other_cpu; /* handler and faulting thread are on two */
};

static int image;
static struct gm_source *file;
static struct gm_pager *beside; /* has the idle ones */
static struct gm_pager *pager;
static uint8_t *memory;
static int uffd;
static int stop_pipe[2];
static uint64_t took[FAULTS];

static void must(bool what)
{
	if (!what)
		abort();
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	must(sched_setaffinity(0, sizeof(set), &set) == 0);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint8_t *map_own(uint64_t len)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);

	must(at != MAP_FAILED && madvise(at, len, MADV_NOHUGEPAGE) == 0);
	return at;
}

/* ---- who serves ---- */

static int bare_uffd(void *at, uint64_t len, uint64_t mode, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	struct uffdio_register reg = {.range = {(uintptr_t)at, len}, .mode = mode};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	must(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
	return fd;
}

static void serve_bare(void)
{
	static uint8_t buf[PAGE] __attribute__((aligned(PAGE)));
	struct uffd_msg msgs[64];
	ssize_t got = read(uffd, msgs, sizeof(msgs));

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(msgs[0]); i++) {
		uint64_t at = msgs[i].arg.pagefault.address & ~(uint64_t)(PAGE - 1);
		struct uffdio_copy copy = {.dst = at, .src = (uintptr_t)buf, .len = PAGE};

		must(pread(image, buf, PAGE, (off_t)(at - (uintptr_t)memory)) == PAGE);
		must(ioctl(uffd, UFFDIO_COPY, &copy) == 0);
	}
}

static void *handle_bare(void *arg)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	char end;

	pin(*(int *)arg);
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, uffd, &event) == 0);
	event.data.u64 = 1;
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, stop_pipe[0], &event) == 0);
	for (;;) {
		must(epoll_wait(epoll, &event, 1, -1) == 1);
		if (event.data.u64 == 1)
			break;
		serve_bare();
	}
	must(read(stop_pipe[0], &end, 1) == 1);
	close(epoll);
	return NULL;
}

static void *handle_ours(void *arg)
{
	pin(*(int *)arg);
	must(gm_pager_run(pager) == 0);
	return NULL;
}

static void add(struct gm_pager *to, void *at, uint64_t len)
{
	struct gm_pager_area_opts opts = {.size = sizeof(opts), .source = file};

	must(gm_pager_add_range(to, at, len, &opts, NULL, NULL) == 0);
}

static struct gm_pager *make(uint32_t wait)
{
	struct gm_pager_opts opts = {.size = sizeof(opts), .wait = wait};
	struct gm_pager *made;

	must(gm_pager_create(&opts, &made, NULL) == 0);
	return made;
}

static void drop(struct gm_pager *of)
{
	must(gm_pager_stop(of, GM_PAGER_HANDOVER, 0, NULL) == 0);
	must(gm_pager_destroy(of, NULL) == 0);
}

/* ---- a sample ---- */

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void touch_all(void)
{
	for (uint64_t i = 0; i < FAULTS; i++) {
		uint64_t from = now();

		bench_sink += memory[(i + 1) * 77 % FAULTS * PAGE];
		took[i] = now() - from;
	}
	qsort(took, FAULTS, sizeof(took[0]), by_size);
}

/* Leaves the times in took[], sorted. */
static void sample(const struct side *side)
{
	int cpu = side->other_cpu ? 1 : 0;
	pthread_t handler;

	memory = map_own(LEN);
	if (side->who == BARE) {
		uffd = bare_uffd(memory, LEN, UFFDIO_REGISTER_MODE_MISSING, 0);
		must(pthread_create(&handler, NULL, handle_bare, &cpu) == 0);
		touch_all();
		must(write(stop_pipe[1], "", 1) == 1);
		pthread_join(handler, NULL);
		close(uffd);
	} else {
		pager = side->who == OURS ? make(side->wait) : beside;
		add(pager, memory, LEN);
		must(pthread_create(&handler, NULL, handle_ours, &cpu) == 0);
		touch_all();
		gm_pager_quit(pager);
		pthread_join(handler, NULL);
		if (side->who == OURS)
			drop(pager);
	}
	munmap(memory, LEN);
}

static uint64_t thousandths(uint64_t value, uint64_t of)
{
	return value * 1000 / of;
}

/* Ratios of the medians, and of the 99th of a hundred. */
static void compare(
	const struct side *a, const struct side *b, uint64_t *ret_p50, uint64_t *ret_p99)
{
	uint64_t p50[ROUNDS];
	uint64_t p99[ROUNDS];

	pin(0);
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t of[2][2];

		for (int turn = 0; turn < 2; turn++) {
			int which = (turn + round) % 2;

			sample(which ? b : a);
			of[which][0] = took[FAULTS / 2];
			of[which][1] = took[FAULTS * 99 / 100];
		}
		p50[round] = thousandths(of[0][0], of[1][0]);
		p99[round] = thousandths(of[0][1], of[1][1]);
	}
	qsort(p50, ROUNDS, sizeof(p50[0]), by_size);
	qsort(p99, ROUNDS, sizeof(p99[0]), by_size);
	*ret_p50 = p50[ROUNDS / 2];
	*ret_p99 = p99[ROUNDS / 2];
}

/* ---- in the threads that fault ---- */

static uint8_t *shared; /* LEN of the pager's, LEN of the bare calls' */

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uint64_t at = (uintptr_t)info->si_addr & ~(uint64_t)(PAGE - 1);
	struct uffdio_continue go = {.range = {at, PAGE}};

	(void)sig;
	(void)context;
	if (at - (uintptr_t)shared < LEN)
		must(gm_pager_resolve(pager, info->si_addr) == 0);
	else
		must(ioctl(uffd, UFFDIO_CONTINUE, &go) == 0);
}

struct part {
	uint64_t first;
	uint64_t nr;
	int cpu;
};

static void *touch_part(void *arg)
{
	const struct part *part = arg;
	uint64_t sum = 0;

	pin(part->cpu);
	for (uint64_t i = part->first; i < part->first + part->nr; i++)
		sum += shared[i * PAGE];
	return (void *)(uintptr_t)sum;
}

static uint64_t time_of(const struct part *parts, int nr)
{
	pthread_t threads[2];
	uint64_t from;

	must(madvise(shared, 2 * LEN, MADV_DONTNEED) == 0);
	from = now();
	for (int i = 0; i < nr; i++)
		must(pthread_create(&threads[i], NULL, touch_part, (void *)(uintptr_t)&parts[i]) ==
			0);
	for (int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	return now() - from;
}

/* The same pages in one thread and in two, by the pager and by the bare calls. */
static void in_threads(uint64_t *ret_one, uint64_t *ret_two, uint64_t *ret_scale)
{
	static const struct part parts[2][3] = {
		{{0, FAULTS, 0}, {0, FAULTS / 2, 0}, {FAULTS / 2, FAULTS / 2, 1}},
		{{FAULTS, FAULTS, 0}, {FAULTS, FAULTS / 2, 0},
			{FAULTS + FAULTS / 2, FAULTS / 2, 1}},
	};
	uint64_t one[ROUNDS];
	uint64_t two[ROUNDS];
	uint64_t scale[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t ours = time_of(&parts[0][0], 1);
		uint64_t bare = time_of(&parts[1][0], 1);
		uint64_t both = time_of(&parts[0][1], 2);

		one[round] = thousandths(ours, bare);
		two[round] = thousandths(both, time_of(&parts[1][1], 2));
		scale[round] = thousandths(both, ours);
	}
	qsort(one, ROUNDS, sizeof(one[0]), by_size);
	qsort(two, ROUNDS, sizeof(two[0]), by_size);
	qsort(scale, ROUNDS, sizeof(scale[0]), by_size);
	*ret_one = one[ROUNDS / 2];
	*ret_two = two[ROUNDS / 2];
	*ret_scale = scale[ROUNDS / 2];
}

static void bench_threads(void)
{
	static const struct bench_row rows[] = {
		{.name = "one thread that resolves",
			.against = "/1000 of SIGBUS, CONTINUE",
			.limit_ns = 1100},
		{.name = "two threads that resolve",
			.against = "/1000 of SIGBUS, CONTINUE",
			.limit_ns = 1100},
		{.name = "two threads that resolve the same pages",
			.against = "/1000 of one",
			.limit_ns = 588},
	};
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct gm_pager_area_opts opts = {
		.size = sizeof(opts), .flags = GM_PAGER_FILE | GM_PAGER_SIGBUS, .fd = image};
	uint64_t values[3];

	shared = map_own(2 * (uint64_t)LEN);
	for (int i = 0; i < 2; i++) {
		void *at = mmap(shared + (uint64_t)i * LEN, LEN, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED, image, 0);

		must(at != MAP_FAILED);
	}
	must(sigaction(SIGBUS, &act, NULL) == 0);
	pager = make(0);
	must(gm_pager_add_range(pager, shared, LEN, &opts, NULL, NULL) == 0);
	uffd = bare_uffd(shared + LEN, LEN,
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
		UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM);
	/* The first time pages are found to be in the file. */
	time_of(&(struct part){0, FAULTS, 0}, 1);
	in_threads(&values[0], &values[1], &values[2]);
	for (size_t i = 0; i < 3; i++)
		bench_fact(&rows[i], (double)values[i]);
	drop(pager);
	close(uffd);
	munmap(shared, 2 * (size_t)LEN);
}

/* ---- idle ---- */

static uint64_t resident(void)
{
	FILE *from = fopen("/proc/self/statm", "r");
	unsigned long pages[2];

	must(from && fscanf(from, "%lu %lu", &pages[0], &pages[1]) == 2);
	fclose(from);
	return pages[1] * PAGE;
}

/* Returns what each takes of this process's memory. */
static uint64_t add_idle(void)
{
	uint8_t *idle = map_own(IDLE * PAGE);
	uint64_t before;

	beside = make(0);
	before = resident();
	for (uint64_t i = 0; i < IDLE; i++)
		add(beside, idle + i * PAGE, PAGE);
	return (resident() - before) / IDLE;
}

/* ---- rows ---- */

static void make_all(void)
{
	uint8_t *bytes;

	image = memfd_create("image", MFD_CLOEXEC);
	must(image >= 0 && ftruncate(image, LEN) == 0 && pipe(stop_pipe) == 0);
	bytes = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, image, 0);
	must(bytes != MAP_FAILED);
	memset(bytes, 0x5a, LEN);
	munmap(bytes, LEN);
	must(gm_source_file(image, 0, 0, &file, NULL) == 0);
}

int main(int argc, char **argv)
{
	static const struct {
		struct side a;
		struct side b;
		struct bench_row p50;
		struct bench_row p99;
	} rows[] = {
		{{OURS, GM_PAGER_WAIT_AUTO, false}, {.who = BARE},
			{.name = "median fault, same CPU",
				.against = "/1000 of epoll, pread, COPY",
				.limit_ns = 1050},
			{.name = "p99 fault, same CPU",
				.against = "/1000 of epoll, pread, COPY",
				.limit_ns = 1150}},
		{{OURS, GM_PAGER_WAIT_BLOCK, true}, {BARE, 0, true},
			{.name = "median fault, other CPU, sleeping",
				.against = "/1000 of epoll, pread, COPY",
				.limit_ns = 1050},
			{.name = "p99 fault, other CPU, sleeping",
				.against = "/1000 of epoll, pread, COPY",
				.limit_ns = 1150}},
		{{OURS, GM_PAGER_WAIT_AUTO, false}, {OURS, GM_PAGER_WAIT_BLOCK, false},
			{.name = "median fault, same CPU, automatic waiting",
				.against = "/1000 of sleeping",
				.limit_ns = 1100},
			{.name = NULL}},
		{{OURS, GM_PAGER_WAIT_AUTO, true}, {OURS, GM_PAGER_WAIT_BUSY, true},
			{.name = "median fault, other CPU, automatic waiting",
				.against = "/1000 of never sleeping",
				.limit_ns = 1100},
			{.name = NULL}},
		{{OURS_BESIDE_IDLE, 0, false}, {OURS, 0, false},
			{.name = "median fault beside 1000 idle userfaultfds",
				.against = "/1000 of alone",
				.limit_ns = 1100},
			{.name = NULL}},
	};
	static const struct bench_row idle = {
		.name = "bytes of an idle userfaultfd", .against = "4 KiB", .limit_ns = 4096};

	bench_begin(argc, argv);
	make_all();
	bench_fact(&idle, (double)add_idle());
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint64_t p50;
		uint64_t p99;

		compare(&rows[i].a, &rows[i].b, &p50, &p99);
		bench_fact(&rows[i].p50, (double)p50);
		if (rows[i].p99.name)
			bench_fact(&rows[i].p99, (double)p99);
	}
	bench_threads();
	drop(beside);
	return bench_end();
}

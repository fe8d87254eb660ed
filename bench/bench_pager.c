/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_pager.c - filling memory on demand and ahead, against loops of the bare calls that do the same.
 *
 * usage: bench_pager [--json FILE]
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define PAGE 4096u
#define LEN (32u << 20)
#define CHUNK (2u << 20)
#define FAULTS 512u
#define LARGE (UINT64_C(64) << 30)

#ifndef UFFDIO_MOVE /* Linux 6.8 */
#define UFFD_FEATURE_MOVE (1 << 16)
#define UFFDIO_MOVE _IOWR(0xAA, 0x05, struct uffdio_move)

struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};
#endif

static int image; /* LEN of bytes */
static struct gm_source *file;
static struct gm_source *zeros;
static uint8_t *memory;   /* LEN, private: the pager's */
static uint8_t *bare;     /* the same, the other side's */
static uint8_t *moved[2]; /* LEN each, at a multiple of CHUNK: ours, the other side's */
static uint8_t *staging;  /* CHUNK */
static struct gm_source *made;
static uint8_t *large;
static int shared_fd;
static uint8_t *shared;

static struct gm_pager *pager;
static uint64_t area;
static int uffd = -1;
static pthread_t handler;
static bool handling;
static bool ours; /* who handles */
static int stop_pipe[2];

static void must(bool what)
{
	if (!what)
		abort();
}

static uint8_t *map_own(uint64_t len)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);

	must(at != MAP_FAILED);
	return at;
}

static uint8_t *map_file(uint64_t len, int fd)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	must(at != MAP_FAILED);
	return at;
}

/* ---- bare ---- */

static int bare_uffd(void *at, uint64_t len, uint64_t mode, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	struct uffdio_register reg = {.range = {(uintptr_t)at, len}, .mode = mode};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	must(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
	return fd;
}

static void *handle_bare(void *arg)
{
	static uint8_t buf[PAGE];
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	(void)arg;
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, uffd, &event) == 0);
	event.data.u64 = 1;
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, stop_pipe[0], &event) == 0);
	for (;;) {
		struct uffd_msg msgs[64];
		ssize_t got;

		must(epoll_wait(epoll, &event, 1, -1) == 1);
		if (event.data.u64 == 1)
			break;
		got = read(uffd, msgs, sizeof(msgs));
		for (ssize_t i = 0; i < got / (ssize_t)sizeof(msgs[0]); i++) {
			uint64_t at = msgs[i].arg.pagefault.address & ~(uint64_t)(PAGE - 1);
			struct uffdio_copy copy = {.dst = at, .src = (uintptr_t)buf, .len = PAGE};

			must(pread(image, buf, PAGE, (off_t)(at - (uintptr_t)bare)) == PAGE);
			must(ioctl(uffd, UFFDIO_COPY, &copy) == 0);
		}
	}
	close(epoll);
	must(read(stop_pipe[0], buf, 1) == 1);
	return NULL;
}

static void *handle_ours(void *arg)
{
	must(gm_pager_run(arg) == 0);
	return NULL;
}

/* ---- before ---- */

static void end(void)
{
	if (handling) {
		if (ours)
			gm_pager_quit(pager);
		else
			must(write(stop_pipe[1], "", 1) == 1);
		pthread_join(handler, NULL);
	}
	handling = false;
	if (pager) {
		must(gm_pager_stop(pager, GM_PAGER_HANDOVER, 0, NULL) == 0);
		must(gm_pager_destroy(pager, NULL) == 0);
	}
	pager = NULL;
	if (uffd >= 0)
		close(uffd);
	uffd = -1;
	must(madvise(memory, LEN, MADV_DONTNEED) == 0 && madvise(bare, LEN, MADV_DONTNEED) == 0);
	must(madvise(moved[0], LEN, MADV_DONTNEED) == 0 &&
		madvise(moved[1], LEN, MADV_DONTNEED) == 0);
}

static void begin(uint8_t *at, uint64_t len, struct gm_source *from, uint32_t flags, int fd)
{
	struct gm_pager_area_opts opts = {
		.size = sizeof(opts), .source = from, .flags = flags, .fd = fd};

	must(gm_pager_create(NULL, &pager, NULL) == 0);
	must(gm_pager_add_range(pager, at, len, &opts, &area, NULL) == 0);
}

static void run_handler(bool by_us)
{
	ours = by_us;
	must(pthread_create(&handler, NULL, by_us ? handle_ours : handle_bare, pager) == 0);
	handling = true;
}

static void bulk_before(void *ctx)
{
	(void)ctx;
	end();
}

/* ---- ahead ---- */

static void fill_ours(void *ctx, uint64_t iters)
{
	struct gm_pager_stats stats = {.size = sizeof(stats)};

	(void)iters;
	begin(memory, LEN, ctx, 0, -1);
	must(gm_pager_prefetch(pager, area, 0, LEN) == 0);
	while (stats.bytes_ahead < LEN) {
		must(gm_pager_step(pager, 0) >= 0);
		must(gm_pager_stats(pager, &stats) == 0);
	}
}

static void fill_bare(void *ctx, uint64_t iters)
{
	void *from = NULL;

	(void)iters;
	uffd = bare_uffd(bare, LEN, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (ctx == file)
		from = map_file(LEN, image);
	for (uint64_t off = 0; off < LEN; off += CHUNK) {
		if (from) {
			struct uffdio_copy copy = {.dst = (uintptr_t)bare + off,
				.src = (uintptr_t)from + off,
				.len = CHUNK};

			must(ioctl(uffd, UFFDIO_COPY, &copy) == 0);
		} else {
			struct uffdio_zeropage zero = {.range = {(uintptr_t)bare + off, CHUNK}};

			must(ioctl(uffd, UFFDIO_ZEROPAGE, &zero) == 0);
		}
	}
	if (from)
		munmap(from, LEN);
}

/* ---- by huge pages ---- */

static uint8_t *map_huge(uint64_t len)
{
	uint8_t *at = map_own(len + CHUNK);

	at += -(uintptr_t)at & (CHUNK - 1);
	must(madvise(at, len, MADV_HUGEPAGE) == 0);
	return at;
}

static void fill_moved(void *ctx, uint64_t iters)
{
	struct gm_pager_area_opts opts = {
		.size = sizeof(opts), .source = made, .way = *(uint32_t *)ctx};
	struct gm_pager_stats stats = {.size = sizeof(stats)};
	uint8_t *at = opts.way == GM_PAGER_MOVE ? moved[0] : memory;

	(void)iters;
	must(gm_pager_create(NULL, &pager, NULL) == 0);
	must(gm_pager_add_range(pager, at, LEN, &opts, &area, NULL) == 0);
	must(gm_pager_prefetch(pager, area, 0, LEN) == 0);
	while (stats.bytes_ahead < LEN) {
		must(gm_pager_step(pager, 0) >= 0);
		must(gm_pager_stats(pager, &stats) == 0);
	}
}

static void move_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	uffd = bare_uffd(moved[1], LEN, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_MOVE);
	for (uint64_t off = 0; off < LEN; off += CHUNK) {
		struct uffdio_move move = {
			.dst = (uintptr_t)moved[1] + off, .src = (uintptr_t)staging, .len = CHUNK};

		memset(staging, 0x5a, CHUNK);
		must(ioctl(uffd, UFFDIO_MOVE, &move) == 0);
	}
}

/* ---- pushed ---- */

#define PIECE (256u << 10)

static uint8_t *data; /* LEN, of bytes */
static int push_fd[2];
static uint8_t *push_shared[2]; /* ours, the other side's */

static void push_before(void *ctx)
{
	end();
	if (*(bool *)ctx) {
		for (int i = 0; i < 2; i++)
			must(fallocate(push_fd[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				     LEN) == 0);
		begin(push_shared[0], LEN, made, GM_PAGER_FILE, push_fd[0]);
		uffd = bare_uffd(push_shared[1], LEN,
			UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
			UFFD_FEATURE_MINOR_SHMEM);
	} else {
		begin(memory, LEN, made, 0, -1);
		uffd = bare_uffd(bare, LEN, UFFDIO_REGISTER_MODE_MISSING, 0);
	}
}

static void push_ours(void *ctx, uint64_t iters)
{
	uint64_t installed;

	(void)ctx;
	(void)iters;
	for (uint64_t off = 0; off < LEN; off += PIECE)
		must(gm_pager_push(pager, area, off, data + off, PIECE, NULL, &installed) == 0 &&
			installed == PIECE);
}

static void push_bare(void *ctx, uint64_t iters)
{
	(void)iters;
	for (uint64_t off = 0; off < LEN; off += PIECE) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)bare + off, .src = (uintptr_t)data + off, .len = PIECE};
		struct uffdio_continue go = {.range = {(uintptr_t)push_shared[1] + off, PIECE}};

		if (!*(bool *)ctx) {
			must(ioctl(uffd, UFFDIO_COPY, &copy) == 0);
			continue;
		}
		must(pwrite(push_fd[1], data + off, PIECE, (off_t)off) == PIECE);
		must(ioctl(uffd, UFFDIO_CONTINUE, &go) == 0);
	}
}

/* ---- there in part ---- */

#define PARTLY (UINT64_C(8) << 30)

static uint64_t bits[PARTLY / PAGE / 64];

static void partly_before(void *ctx)
{
	end();
	memset(bits, *(bool *)ctx ? 0xff : 0, sizeof(bits));
}

static void partly(void *ctx, uint64_t iters)
{
	struct gm_pager_area_opts opts = {
		.size = sizeof(opts), .source = zeros, .flags = GM_PAGER_PRESENT, .present = bits};

	(void)ctx;
	(void)iters;
	must(gm_pager_create(NULL, &pager, NULL) == 0);
	must(gm_pager_add_range(pager, large, PARTLY, &opts, &area, NULL) == 0);
}

/* ---- on demand ---- */

static void touch(const uint8_t *at)
{
	for (uint64_t i = 0; i < FAULTS; i++)
		bench_sink += at[i * 77 % (LEN / PAGE) * PAGE];
}

static void demand_before(void *ctx)
{
	end();
	begin(memory, LEN, file, 0, -1);
	(void)ctx;
	uffd = bare_uffd(bare, LEN, UFFDIO_REGISTER_MODE_MISSING, 0);
}

/* The thread is made in the sample, on both sides. */
static void demand_ours(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	run_handler(true);
	touch(memory);
}

static void demand_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	run_handler(false);
	touch(bare);
}

/* ---- in the thread that faults ---- */

static bool by_pager;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	if (by_pager) {
		must(gm_pager_resolve(pager, info->si_addr) == 0);
	} else {
		struct uffdio_continue go = {
			.range = {(uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1), PAGE}};

		must(ioctl(uffd, UFFDIO_CONTINUE, &go) == 0);
	}
}

/* All pages are in the file and none is mapped. */
static void thread_before(void *ctx)
{
	(void)ctx;
	must(madvise(shared, LEN, MADV_DONTNEED) == 0);
}

static void thread_touch(void *ctx, uint64_t iters)
{
	(void)iters;
	by_pager = *(bool *)ctx;
	for (uint64_t i = 0; i < FAULTS; i++)
		bench_sink += shared[(by_pager ? 0 : LEN / 2) + i * PAGE];
}

static void thread_start(void)
{
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};

	end();
	must(sigaction(SIGBUS, &act, NULL) == 0);
	begin(shared, LEN / 2, NULL, GM_PAGER_FILE | GM_PAGER_SIGBUS, shared_fd);
	uffd = bare_uffd(shared + LEN / 2, LEN / 2,
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
		UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM);
	by_pager = true;
	for (uint64_t i = 0; i < FAULTS; i++)
		bench_sink += shared[i * PAGE];
}

/* ---- arming ---- */

static void arm(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	begin(large, LARGE, zeros, 0, -1);
}

/* ---- taking over ---- */

static int states;

static void takeover_before(void *ctx)
{
	(void)ctx;
	end();
	uffd = bare_uffd(large, LARGE, UFFDIO_REGISTER_MODE_MISSING, 0);
}

/* What a handler does in the place of one that was killed, until it can serve. */
static void take_over(void *ctx, uint64_t iters)
{
	struct gm_pager_area_opts opts = {.size = sizeof(opts),
		.source = zeros,
		.flags = GM_PAGER_STATES | GM_PAGER_TAKEOVER,
		.states = states};
	uint64_t id;

	(void)ctx;
	(void)iters;
	must(gm_pager_create(NULL, &pager, NULL) == 0);
	must(gm_pager_add_uffd(pager, uffd, 0, &id, NULL) == 0);
	must(gm_pager_add_mapping(pager, id, (uintptr_t)large, LARGE, &opts, &area, NULL) == 0);
}

/* ---- rows ---- */

static int no_bytes(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	(void)ctx;
	(void)offset;
	(void)err;
	memset(buf, 0, len);
	return 0;
}

static int made_bytes(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	(void)ctx;
	(void)offset;
	(void)err;
	memset(buf, 0x5a, len);
	return 0;
}

static int all_zero(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	(void)ctx;
	(void)offset;
	extent->kind = GM_SOURCE_ZERO;
	return 0;
}

static void make_all(void)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops), .len = LARGE, .read = no_bytes, .extent = all_zero};

	image = memfd_create("image", MFD_CLOEXEC);
	shared_fd = memfd_create("shared", MFD_CLOEXEC);
	must(ftruncate(image, LEN) == 0 && ftruncate(shared_fd, LEN) == 0 && pipe(stop_pipe) == 0);
	memory = map_file(LEN, image);
	memset(memory, 0x5a, LEN);
	munmap(memory, LEN);
	shared = map_file(LEN, shared_fd);
	memset(shared, 0xa5, LEN);
	memory = map_own(LEN);
	bare = map_own(LEN);
	large = map_own(LARGE);
	/* Huge pages would be installed by one side only. */
	must(madvise(memory, LEN, MADV_NOHUGEPAGE) == 0 &&
		madvise(bare, LEN, MADV_NOHUGEPAGE) == 0);
	must(gm_source_file(image, 0, 0, &file, NULL) == 0);
	must(gm_source_create(&ops, &zeros, NULL) == 0);
	ops = (struct gm_source_ops){.size = sizeof(ops), .len = LEN, .read = made_bytes};
	must(gm_source_create(&ops, &made, NULL) == 0);
	states = memfd_create("states", MFD_CLOEXEC);
	must(ftruncate(states, (off_t)gm_pager_states_len(LARGE / PAGE)) == 0);
	data = map_own(LEN);
	memset(data, 0x77, LEN);
	for (int i = 0; i < 2; i++) {
		push_fd[i] = memfd_create("push", MFD_CLOEXEC);
		must(ftruncate(push_fd[i], LEN) == 0);
		push_shared[i] = map_file(LEN, push_fd[i]);
	}
	moved[0] = map_huge(LEN);
	moved[1] = map_huge(LEN);
	staging = map_huge(CHUNK);
}

static bool yes = true;
static bool no = false;
static uint32_t by_moving = GM_PAGER_MOVE;
static uint32_t by_copying = GM_PAGER_COPY;
static struct bench_row ahead[] = {
	{.name = "32 MiB ahead, from a file",
		.ours = fill_ours,
		.against = "mmap, UFFDIO_COPY of 2 MiB",
		.other = fill_bare,
		.goal = 1.05,
		.before = bulk_before,
		.iters = 1},
	{.name = "32 MiB ahead, zeros",
		.ours = fill_ours,
		.against = "UFFDIO_ZEROPAGE of 2 MiB",
		.other = fill_bare,
		.goal = 1.1,
		.before = bulk_before,
		.iters = 1},
	{.name = "32 MiB ahead, moved",
		.ours = fill_moved,
		.ours_ctx = &by_moving,
		.against = "memset, UFFDIO_MOVE of 2 MiB",
		.other = move_bare,
		.goal = 1.2,
		.before = bulk_before,
		.iters = 1},
	{.name = "32 MiB ahead, moved",
		.ours = fill_moved,
		.ours_ctx = &by_moving,
		.against = "the same, copied",
		.other = fill_moved,
		.other_ctx = &by_copying,
		.goal = 0.7,
		.before = bulk_before,
		.iters = 1},
	{.name = "32 MiB pushed by 256 KiB",
		.ours = push_ours,
		.ours_ctx = &no,
		.against = "UFFDIO_COPY of 256 KiB",
		.other = push_bare,
		.other_ctx = &no,
		.goal = 1.1,
		.before = push_before,
		.before_ctx = &no,
		.iters = 1},
	{.name = "32 MiB pushed into a file",
		.ours = push_ours,
		.ours_ctx = &yes,
		.against = "pwrite, UFFDIO_CONTINUE of 256 KiB",
		.other = push_bare,
		.other_ctx = &yes,
		.goal = 1.1,
		.before = push_before,
		.before_ctx = &yes,
		.iters = 1},
	{.name = "8 GiB of which all is there",
		.ours = partly,
		.ours_ctx = &yes,
		.against = "5 ms",
		.limit_ns = 5e6,
		.goal = 1,
		.before = partly_before,
		.before_ctx = &yes,
		.iters = 1},
	{.name = "8 GiB of which nothing is there",
		.ours = partly,
		.ours_ctx = &no,
		.against = "5 ms",
		.limit_ns = 5e6,
		.goal = 1,
		.before = partly_before,
		.before_ctx = &no,
		.iters = 1},
	{.name = "512 faults on demand",
		.ours = demand_ours,
		.against = "epoll, read, pread, UFFDIO_COPY",
		.other = demand_bare,
		.goal = 1.05,
		.before = demand_before,
		.iters = 1},
	{.name = "a pager of 64 GiB until it can be touched",
		.ours = arm,
		.against = "1 ms",
		.limit_ns = 1e6,
		.goal = 1,
		.before = bulk_before,
		.iters = 1},
	{.name = "taking over 64 GiB from a killed handler",
		.ours = take_over,
		.against = "5 ms",
		.limit_ns = 5e6,
		.goal = 1,
		.before = takeover_before,
		.iters = 1},
};
static const struct bench_row in_thread = {.name = "512 faults in the thread itself, continued",
	.ours = thread_touch,
	.ours_ctx = &yes,
	.against = "SIGBUS, UFFDIO_CONTINUE",
	.other = thread_touch,
	.other_ctx = &no,
	.goal = 1.1,
	.before = thread_before,
	.iters = 1};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	make_all();
	ahead[0].ours_ctx = file;
	ahead[0].other_ctx = file;
	ahead[1].ours_ctx = zeros;
	ahead[1].other_ctx = zeros;
	bench_rows(ahead, sizeof(ahead) / sizeof(*ahead));
	thread_start();
	bench_run(&in_thread);
	end();
	return bench_end();
}

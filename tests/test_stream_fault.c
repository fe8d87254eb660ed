/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream_fault.c - each system call of a transfer falls short, is interrupted, would block or
 * fails: what is counted has been moved, in order and to its place, and nothing else has.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/stream.h>
#include <sys/socket.h>

#include "fault.h"
#include "stream_memory.h"

#define LEN 20000u
#define AT 123u /* where the bytes lie in guest memory */
#define MEMORY KIB(32)

/* The ways to an fd, and which calls they make. */
enum kind {
	OWN_POSITION,
	POSITIONED,
	SOCKET,
	NR_KINDS,
};

struct way {
	enum kind kind;
	bool write;  /* to the stream */
	bool pieces; /* guest memory is in many pieces */
	bool exact;
	enum fault_fn fn;
};

static struct gm_space *pages;
static struct gm_reader *page_reader;
static struct gm_iommu *iommu;
static uint8_t *bytes;

/* The same memory in one region, and page by page in another order behind an IOMMU. */
static void start_both(void)
{
	struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GIB(64)};

	start(&opts);
	add(0, MEMORY);
	opts.over = space;
	assert_ok(gm_space_create(&opts, &pages, &err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(pages, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	for (uint64_t at = 0; at < MEMORY; at += PAGE)
		assert_ok(gm_iommu_map(iommu, at, PAGE, MEMORY - PAGE - at, GM_PERM_RW, &err));
	assert_ok(gm_reader_create(pages, "pages", &page_reader, &err));
	bytes = noise(LEN, 40);
}

static void stop_both(void)
{
	gm_reader_destroy(page_reader);
	gm_space_destroy(pages);
	gm_iommu_put(iommu);
	stop();
	free(bytes);
}

static enum fault_fn call_of(const struct way *way)
{
	static const enum fault_fn calls[NR_KINDS][2][2] = {
		[OWN_POSITION] = {{FAULT_gm_sys_read, FAULT_gm_sys_write},
			{FAULT_gm_sys_readv, FAULT_gm_sys_writev}},
		[POSITIONED] = {{FAULT_gm_sys_pread, FAULT_gm_sys_pwrite},
			{FAULT_gm_sys_preadv, FAULT_gm_sys_pwritev}},
		[SOCKET] = {{FAULT_gm_sys_recv, FAULT_gm_sys_send},
			{FAULT_gm_sys_recvmsg, FAULT_gm_sys_sendmsg}},
	};

	return calls[way->kind][way->pieces][way->write];
}

/* Opens the other end; @feed puts the bytes where they are to be read. */
static void open_stream(const struct way *way, struct gm_stream *s, int fds[2])
{
	if (way->kind == SOCKET) {
		int room = 1 << 20;

		assert_int_equal(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
		setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		if (!way->write)
			assert_int_equal(write(fds[1], bytes, LEN), LEN);
		assert_ok(gm_stream_init_fd(s, fds[0], &err));
		return;
	}
	fds[0] = way->write ? file_of("", 0) : file_of(bytes, LEN);
	fds[1] = -1;
	assert_int_equal(lseek(fds[0], 0, SEEK_SET), 0);
	if (way->kind == POSITIONED)
		assert_ok(gm_stream_init_file(s, fds[0], 0, &err));
	else
		assert_ok(gm_stream_init_fd(s, fds[0], &err));
}

/* What came out at the other end is @len bytes, and no more. */
static void assert_came_out(const struct way *way, const int fds[2], size_t len)
{
	uint8_t *out = calloc(1, LEN + 1);
	ssize_t n = way->kind == SOCKET ? recv(fds[1], out, LEN + 1, MSG_DONTWAIT)
					: pread(fds[0], out, LEN + 1, 0);

	if (len == 0 && way->kind == SOCKET)
		assert_int_equal(n, -1);
	else
		assert_int_equal(n, len);
	assert_memory_equal(out, bytes, len);
	free(out);
}

/* Guest memory has @len of the bytes, and zeros around. */
static void assert_came_in(struct gm_reader *by, size_t len)
{
	const struct gm_view *view = gm_reader_enter(by);
	int order = 1;

	assert_int_equal(gm_compare(view, AT, bytes, len, &order, NULL), 0);
	assert_int_equal(order, 0);
	assert_int_equal(gm_is_zero(view, 0, AT, NULL), 1);
	assert_int_equal(gm_is_zero(view, AT + len, MEMORY - AT - len, NULL), 1);
	gm_reader_leave(by);
}

static void clear(struct gm_reader *by)
{
	assert_int_equal(gm_fill(gm_reader_enter(by), 0, 0, MEMORY, NULL), 0);
	gm_reader_leave(by);
}

/* One transfer under a plan. What must come is told by @rc and @done, unless done is SIZE_MAX. */
static bool run(const struct way *way, const struct fault_plan *plan, int *ret_rc, size_t *ret_done)
{
	struct gm_reader *by = way->pieces ? page_reader : reader;
	struct gm_stream s;
	bool met;
	int fds[2];

	clear(by);
	if (way->write) {
		assert_int_equal(gm_write(gm_reader_enter(by), AT, bytes, LEN, NULL), 0);
		gm_reader_leave(by);
	}
	open_stream(way, &s, fds);
	fault_set(plan);
	*ret_done = 12345;
	*ret_rc = way->write ? gm_stream_write(&s, by, AT, LEN, way->exact ? EXACT : 0, ret_done)
			     : gm_stream_read(&s, by, AT, LEN, way->exact ? EXACT : 0, ret_done);
	fault_disarm();
	met = fault_hits() > 0;
	if (way->write)
		assert_came_out(way, fds, *ret_done);
	else
		assert_came_in(by, *ret_done);
	if (way->kind == POSITIONED)
		assert_int_equal(gm_stream_tell(&s), *ret_done);
	/* What is not done yet can be done now. */
	if (way->kind == POSITIONED && *ret_done < LEN) {
		size_t more;
		int rc = way->write ? gm_stream_write(
					      &s, by, AT + *ret_done, LEN - *ret_done, EXACT, &more)
				    : gm_stream_read(&s, by, AT + *ret_done, LEN - *ret_done, EXACT,
					      &more);

		assert_int_equal(rc, 0);
		if (way->write)
			assert_came_out(way, fds, LEN);
		else
			assert_came_in(by, LEN);
	}
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return met;
}

static void each_way(void (*check)(const struct way *way))
{
	start_both();
	for (unsigned int i = 0; i < NR_KINDS * 8; i++) {
		struct way way = {.kind = (enum kind)(i / 8),
			.write = i & 1,
			.pieces = i & 2,
			.exact = i & 4};

		way.fn = call_of(&way);
		check(&way);
	}
	stop_both();
}

/* The first @nth calls fall short, by lengths that end in a page, at one and elsewhere. */
static void check_short(const struct way *way)
{
	static const size_t lens[] = {1, 3, PAGE - AT, PAGE - AT + 1, PAGE, 9000};
	unsigned int tried = 0;

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		for (unsigned long nth = 1; nth <= 3; nth++) {
			struct fault_plan plan = {.fn = way->fn, .nth = nth, .short_len = lens[i]};
			size_t done;
			int rc;

			if (!run(way, &plan, &rc, &done)) {
				/* Only a transfer that stopped makes no further call. */
				assert_true(nth > 1);
				break;
			}
			tried++;
			assert_int_equal(rc, 0);
			/* "Up to" does not wait for a peer twice; of a file it gets all. */
			if (way->exact || way->kind != SOCKET)
				assert_int_equal(done, LEN);
			else
				assert_int_equal(done, lens[i]);
		}
	}
	assert_true(tried >= 6);
}

static void test_what_falls_short_goes_on_in_its_place(void **state)
{
	(void)state;
	each_way(check_short);
}

/* Each call short. (A socket takes no more of small sends.) */
static void check_always_short(const struct way *way)
{
	struct fault_plan plan = {.fn = way->fn,
		.nth = 1,
		.forever = true,
		.short_len = way->kind == SOCKET ? 700 : 7};
	size_t done;
	int rc;

	if (!way->exact)
		return;
	assert_true(run(way, &plan, &rc, &done));
	assert_int_equal(rc, 0);
	assert_int_equal(done, LEN);
}

static void test_calls_that_always_fall_short_are_enough(void **state)
{
	(void)state;
	each_way(check_always_short);
}

static void check_interrupted(const struct way *way)
{
	struct fault_plan plan = {.eintr = 3};
	size_t done;
	int rc;

	assert_true(run(way, &plan, &rc, &done));
	assert_int_equal(rc, 0);
	assert_int_equal(done, LEN);
	/* And after each short call. */
	plan = (struct fault_plan){
		.fn = way->fn, .nth = 1, .forever = true, .short_len = 5000, .eintr = 1};
	assert_true(run(way, &plan, &rc, &done));
	assert_int_equal(rc, 0);
	assert_int_equal(done, way->exact || way->kind != SOCKET ? LEN : 5000);
}

static void test_interrupted_calls_are_made_again(void **state)
{
	(void)state;
	each_way(check_interrupted);
}

/* The call behind a short one fails: what was done is counted. */
static void check_errors(const struct way *way)
{
	static const struct {
		int error;
		int rc;
	} errors[] = {{EAGAIN, -EAGAIN}, {EIO, -EIO}, {ENOSPC, -ENOSPC}, {EFAULT, -EIO},
		{ECONNRESET, -ECONNRESET}};

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		struct fault_plan plan = {.fn = way->fn, .nth = 1, .error = errors[i].error};
		size_t done;
		int rc;

		assert_true(run(way, &plan, &rc, &done));
		assert_int_equal(rc, errors[i].rc);
		assert_int_equal(done, 0);
	}
}

static void test_an_error_is_returned_and_nothing_was_moved(void **state)
{
	(void)state;
	each_way(check_errors);
}

static int little(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	size_t *at = ctx;

	(void)nr;
	*ret_done = slices[0].iov_len < 3000 ? slices[0].iov_len : 3000;
	memcpy(slices[0].iov_base, bytes + *at, *ret_done);
	*at += *ret_done;
	return *at > 10000 ? -EAGAIN : 0;
}

static void test_an_error_comes_with_the_progress(void **state)
{
	struct gm_stream_ops ops = {.size = sizeof(ops), .readv = little};
	struct gm_stream s;
	size_t at = 0;
	size_t done;

	(void)state;
	start_both();
	ops.ctx = &at;
	assert_ok(gm_stream_init_ops(&s, &ops, &err));
	clear(page_reader);
	assert_int_equal(gm_stream_read(&s, page_reader, AT, LEN, EXACT, &done), -EAGAIN);
	assert_true(done > 10000 && done == at);
	assert_came_in(page_reader, done);
	stop_both();
}

static void test_making_a_stream_fails_with_a_reason(void **state)
{
	static const enum fault_fn calls[] = {
		FAULT_gm_sys_fstat, FAULT_gm_sys_open_flags, FAULT_gm_sys_direct_align};
	char path[] = "/var/tmp/guestmem-test-XXXXXX";
	struct gm_stream s = {.kind = 77};
	size_t done;
	int made = mkstemp(path);
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	int fds[2];

	(void)state;
	unlink(path);
	assert_true(made >= 0 && fd >= 0);
	for (size_t i = 0; i < 3; i++) {
		fault_set(&(struct fault_plan){.fn = calls[i], .nth = 1, .error = EPERM});
		assert_fails(gm_stream_init_file(&s, fd, 0, &err), EPERM, "fd");
		assert_int_equal(fault_hits(), 1);
		assert_int_equal(s.kind, 77);
	}
	/* A kernel that does not tell what it wants of O_DIRECT. */
	fault_set(
		&(struct fault_plan){.fn = FAULT_gm_sys_direct_align, .nth = 1, .error = ENOTSUP});
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(fault_hits(), 1);
	assert_int_equal(s.off_align, 512);
	/* Behind an odd number of bytes a disk is not asked again. */
	start(NULL);
	add(0, PAGE);
	assert_int_equal(ftruncate(made, 100), 0);
	fault_set(NULL);
	assert_int_equal(gm_stream_read(&s, reader, 0, PAGE, EXACT, &done), -ENODATA);
	assert_int_equal(done, 100);
	assert_int_equal(fault_calls(FAULT_gm_sys_pread), 1);
	stop();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fault_set(
		&(struct fault_plan){.fn = FAULT_gm_sys_socket_kind, .nth = 1, .error = ENOTSOCK});
	assert_fails(gm_stream_init_fd(&s, fds[0], &err), ENOTSOCK, "socket");
	/* Flushing is made again, and its failure told. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_sync, .nth = 1, .error = EDQUOT, .eintr = 2});
	assert_int_equal(gm_stream_flush(&s, 0), -EDQUOT);
	assert_int_equal(fault_hits(), 3);
	fault_set(NULL);
	close(fds[0]);
	close(fds[1]);
	close(made);
	close(fd);
}

static void test_a_growing_buffer_without_memory_keeps_what_it_has(void **state)
{
	struct gm_stream s;
	size_t done;
	size_t len;
	long before = fault_blocks();

	(void)state;
	start_both();
	set(0, bytes, LEN);
	gm_stream_init_growing(&s, 0);
	assert_int_equal(gm_stream_write(&s, reader, 0, 100, EXACT, &done), 0);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_realloc, .nth = 1, .error = ENOMEM});
	assert_int_equal(gm_stream_write(&s, reader, 100, 9000, EXACT, &done), -ENOMEM);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_write(&s, reader, 100, 9000, EXACT, &done), 0);
	assert_memory_equal(gm_stream_data(&s, &len), bytes, 9100);
	assert_int_equal(len, 9100);
	gm_stream_fini(&s);
	stop_both();
	assert_int_equal(fault_blocks(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_falls_short_goes_on_in_its_place),
		cmocka_unit_test(test_calls_that_always_fall_short_are_enough),
		cmocka_unit_test(test_interrupted_calls_are_made_again),
		cmocka_unit_test(test_an_error_is_returned_and_nothing_was_moved),
		cmocka_unit_test(test_an_error_comes_with_the_progress),
		cmocka_unit_test(test_making_a_stream_fails_with_a_reason),
		cmocka_unit_test(test_a_growing_buffer_without_memory_keeps_what_it_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_uring.c - operations of io_uring on guest memory, with a ring by hand: reads and writes in
 * one piece and in many, registered buffers, and memory that goes while the kernel uses it.
 */
#include <errno.h>
#include <guestmem/discard.h>
#include <guestmem/log.h>
#include <guestmem/stream.h>
#include <guestmem/uring.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "fault.h"
#include "stream_memory.h"

#define ENTRIES 8u

/* One entry at a time. */
static struct ring {
	int fd;
	uint8_t *sq;
	uint8_t *cq;
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
} ring;

static uint8_t *map_ring(size_t len, uint64_t off)
{
	uint8_t *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, (off_t)off);

	assert_true(at != MAP_FAILED);
	return at;
}

static size_t sq_len(void)
{
	return ring.params.sq_off.array + ENTRIES * sizeof(uint32_t);
}

static size_t cq_len(void)
{
	return ring.params.cq_off.cqes + 2 * ENTRIES * sizeof(struct io_uring_cqe);
}

static void open_ring(void)
{
	memset(&ring, 0, sizeof(ring));
	ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &ring.params);
	assert_true(ring.fd >= 0);
	ring.sq = map_ring(sq_len(), IORING_OFF_SQ_RING);
	ring.cq = map_ring(cq_len(), IORING_OFF_CQ_RING);
	ring.sqes = (struct io_uring_sqe *)map_ring(
		ENTRIES * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
}

static void close_ring(void)
{
	munmap(ring.sq, sq_len());
	munmap(ring.cq, cq_len());
	munmap(ring.sqes, ENTRIES * sizeof(struct io_uring_sqe));
	close(ring.fd);
}

static uint32_t *word(uint8_t *base, uint32_t off)
{
	return (uint32_t *)(void *)(base + off);
}

static struct io_uring_sqe *next_sqe(void)
{
	return &ring.sqes[*word(ring.sq, ring.params.sq_off.tail) & (ENTRIES - 1)];
}

static void submit(uint64_t user_data)
{
	uint32_t tail = *word(ring.sq, ring.params.sq_off.tail);

	next_sqe()->user_data = user_data;
	word(ring.sq, ring.params.sq_off.array)[tail & (ENTRIES - 1)] = tail & (ENTRIES - 1);
	__atomic_store_n(word(ring.sq, ring.params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	assert_int_equal(syscall(SYS_io_uring_enter, ring.fd, 1, 0, 0, NULL, 0), 1);
}

static int complete(uint64_t user_data)
{
	uint32_t head = *word(ring.cq, ring.params.cq_off.head);
	const struct io_uring_cqe *cqe =
		(const struct io_uring_cqe *)(void *)(ring.cq + ring.params.cq_off.cqes) +
		(head & (2 * ENTRIES - 1));
	int res;

	while (__atomic_load_n(word(ring.cq, ring.params.cq_off.tail), __ATOMIC_ACQUIRE) == head)
		syscall(SYS_io_uring_enter, ring.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	assert_int_equal(cqe->user_data, user_data);
	res = cqe->res;
	__atomic_store_n(word(ring.cq, ring.params.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return res;
}

/* ---- operations ---- */

static struct iovec slices[64];
static struct gm_pin pins[64];
static struct gm_uring_op op = {.slices = slices, .pins = pins, .room = 64};

static int prepare(int fd, uint64_t off, const struct gm_chain *chain, enum gm_chain_side side)
{
	int rc = gm_uring_prepare(
		&op, next_sqe(), fd, off, chain, side, gm_reader_enter(reader), UINT64_MAX);

	gm_reader_leave(reader);
	return rc;
}

static void test_many_pieces_are_read_and_written_at_once(void **state)
{
	struct gm_chain_elem elems[] = {{10, 700, GM_CHAIN_WRITE, 0},
		{PAGE - 8, 16, GM_CHAIN_WRITE, 0}, {3000, 4, GM_CHAIN_WRITE, 0}};
	uint8_t *bytes = noise(1000, 60);
	int fd = file_of(bytes, 1000);
	struct gm_chain chain;
	uint8_t back[720];
	size_t done;

	(void)state;
	open_ring();
	start_memory();
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_int_equal(prepare(fd, 5, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(op.len, 720);
	assert_int_equal(op.nr, 4);
	assert_int_equal(next_sqe()->opcode, IORING_OP_READV);
	assert_int_equal(prepare(fd, 5, &chain, GM_CHAIN_WRITABLE), -EBUSY);
	submit(1);
	assert_int_equal(gm_uring_finish(&op, complete(1), &chain, &done), 0);
	assert_int_equal(done, 720);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_WRITABLE), 0);
	assert_memory(10, bytes + 5, 700);
	assert_memory(PAGE - 8, bytes + 705, 16);
	assert_memory(3000, bytes + 721, 4);
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), -ENOSPC);
	/* And back, by the file's own position. */
	for (size_t i = 0; i < 3; i++)
		elems[i].flags = 0;
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(prepare(fd, GM_URING_OWN_POSITION, &chain, GM_CHAIN_READABLE), 0);
	assert_int_equal(next_sqe()->opcode, IORING_OP_WRITEV);
	submit(2);
	assert_int_equal(gm_uring_finish(&op, complete(2), &chain, &done), 0);
	assert_int_equal(pread(fd, back, 720, 0), 720);
	assert_memory_equal(back, bytes + 5, 720);
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_READABLE), -ENODATA);
	close(fd);
	stop();
	close_ring();
	free(bytes);
}

static void test_what_fell_short_is_prepared_again(void **state)
{
	struct gm_chain_elem elem = {100, 1000, GM_CHAIN_WRITE, 0};
	uint8_t *bytes = noise(600, 61);
	int fd = file_of(bytes, 600);
	struct gm_chain chain;
	size_t done;

	(void)state;
	open_ring();
	start_memory();
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(next_sqe()->opcode, IORING_OP_READ);
	submit(7);
	assert_int_equal(gm_uring_finish(&op, complete(7), &chain, &done), 0);
	assert_int_equal(done, 600);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_WRITABLE), 400);
	assert_int_equal(prepare(fd, 600, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(op.len, 400);
	submit(8);
	assert_int_equal(gm_uring_finish(&op, complete(8), &chain, &done), 0);
	assert_int_equal(done, 0);
	assert_memory(100, bytes, 600);
	assert_zero(700, 500);
	/* Errors and answers that cannot be. */
	assert_int_equal(prepare(-1, 0, &chain, GM_CHAIN_WRITABLE), 0);
	submit(9);
	assert_int_equal(gm_uring_finish(&op, complete(9), &chain, &done), -EBADF);
	assert_int_equal(done, 0);
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(gm_uring_finish(&op, -EFAULT, &chain, &done), -EIO);
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(gm_uring_finish(&op, 401, &chain, &done), -EPROTO);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_WRITABLE), 400);
	assert_int_equal(prepare(fd, UINT64_C(1) << 63, &chain, GM_CHAIN_WRITABLE), -EINVAL);
	elem.gpa = 2 * PAGE;
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), -EFAULT);
	assert_int_equal(op.nr, 0);
	close(fd);
	stop();
	close_ring();
	free(bytes);
}

static void test_memory_may_go_while_the_kernel_uses_it(void **state)
{
	struct gm_chain_elem elem = {0, 10, GM_CHAIN_WRITE, 0};
	struct gm_chain chain;
	uint8_t *hva;
	uint64_t id;
	int fds[2];
	size_t done;

	(void)state;
	open_ring();
	start(NULL);
	id = add(0, PAGE);
	hva = region(id).hva;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fds[0], GM_URING_OWN_POSITION, &chain, GM_CHAIN_WRITABLE), 0);
	submit(3);
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_synchronize(space, 0, &err));
	assert_int_equal(write(fds[1], "0123456789", 10), 10);
	done = (size_t)complete(3);
	assert_int_equal(done, 10);
	assert_memory_equal(hva, "0123456789", 10);
	assert_int_equal(gm_uring_finish(&op, 10, NULL, &done), 0);
	assert_int_equal(done, 10);
	close(fds[0]);
	close(fds[1]);
	stop();
	close_ring();
}

/* Refused in every way; then two regions as two buffers. */
static void register_two(struct gm_uring_buffers *buffers)
{
	assert_fails(
		gm_uring_register(buffers, ring.fd, space, 0, 3 * PAGE, &err), EFAULT, "gpa 0x0");
	assert_fails(gm_uring_register(buffers, ring.fd, space, 0, 0, &err), EINVAL, "nothing");
	assert_fails(
		gm_uring_register(buffers, ring.fd, space, TOP, PAGE + 1, &err), ERANGE, "wrap");
	buffers->room = 1;
	assert_fails(gm_uring_register(buffers, ring.fd, space, 0, 2 * PAGE, &err), ENOBUFS,
		"buffers of 1");
	buffers->room = 4;
	fault_set(
		&(struct fault_plan){.fn = FAULT_gm_sys_uring_register, .nth = 1, .error = ENOMEM});
	assert_fails(gm_uring_register(buffers, ring.fd, space, 0, 2 * PAGE, &err), ENOMEM,
		"RLIMIT_MEMLOCK");
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(buffers->nr, 0);
	assert_ok(gm_uring_register(buffers, ring.fd, space, 0, 2 * PAGE, &err));
	assert_int_equal(buffers->nr, 2);
	assert_fails(gm_uring_register(buffers, ring.fd, space, 0, PAGE, &err), EINVAL, "already");
}

static void test_registered_buffers_are_used_where_they_serve(void **state)
{
	struct gm_chain_elem elem = {PAGE + 100, 300, GM_CHAIN_WRITE, 0};
	uint8_t *bytes = noise(300, 62);
	int fd = file_of(bytes, 300);
	struct iovec table[4];
	struct gm_pin holds[4];
	struct gm_uring_buffers buffers = {.slices = table, .pins = holds, .room = 4};
	struct gm_chain chain;
	size_t done;

	(void)state;
	open_ring();
	start_memory();
	register_two(&buffers);
	op.buffers = &buffers;
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(next_sqe()->opcode, IORING_OP_READ_FIXED);
	assert_int_equal(next_sqe()->buf_index, 1);
	submit(4);
	assert_int_equal(gm_uring_finish(&op, complete(4), &chain, &done), 0);
	assert_int_equal(done, 300);
	assert_memory(PAGE + 100, bytes, 300);
	elem = (struct gm_chain_elem){0, PAGE, 0, 0};
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_READABLE), 0);
	assert_int_equal(next_sqe()->opcode, IORING_OP_WRITE_FIXED);
	assert_int_equal(next_sqe()->buf_index, 0);
	assert_int_equal(gm_uring_finish(&op, -ECANCELED, &chain, &done), -ECANCELED);
	/* Memory that is not among them. */
	elem.gpa = TOP;
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_READABLE), 0);
	assert_int_equal(next_sqe()->opcode, IORING_OP_WRITE);
	assert_int_equal(gm_uring_finish(&op, -ECANCELED, NULL, NULL), -ECANCELED);
	gm_uring_unregister(&buffers);
	assert_int_equal(buffers.nr, 0);
	gm_uring_unregister(&buffers);
	/* And what lies in one in part. */
	assert_ok(gm_uring_register(&buffers, ring.fd, space, 0, 512, &err));
	elem = (struct gm_chain_elem){100, 413, 0, 0};
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_READABLE), 0);
	assert_int_equal(next_sqe()->opcode, IORING_OP_WRITE);
	assert_int_equal(gm_uring_finish(&op, -ECANCELED, NULL, NULL), -ECANCELED);
	op.buffers = NULL;
	gm_uring_unregister(&buffers);
	close(fd);
	stop();
	close_ring();
	free(bytes);
}

static void test_registered_memory_is_neither_discarded_nor_marked(void **state)
{
	struct gm_chain_elem elem = {100, 50, GM_CHAIN_WRITE, 0};
	uint8_t *bytes = noise(300, 63);
	int fd = file_of(bytes, 300);
	struct iovec table[4];
	struct gm_pin holds[4];
	struct gm_uring_buffers buffers = {.slices = table, .pins = holds, .room = 4};
	struct gm_discard_result freed = {.size = sizeof(freed)};
	struct gm_chain chain;
	struct gm_log *log;
	size_t done;

	(void)state;
	open_ring();
	start_memory();
	set(0, bytes, 300);
	assert_ok(gm_log_create(space, NULL, &log, &err));
	assert_ok(gm_uring_register(&buffers, ring.fd, space, 0, 2 * PAGE, &err));
	/* The guest would lose the page, and the ring go on with it. */
	assert_fails(
		gm_discard(space, 0, PAGE, GM_DISCARD_NOW, 0, &freed, &err), EBUSY, "inhibited");
	op.buffers = &buffers;
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), 0);
	submit(4);
	assert_int_equal(gm_uring_finish(&op, complete(4), &chain, &done), 0);
	assert_int_equal(done, 50);
	assert_memory(100, bytes, 50);
	/* Once only. */
	assert_int_equal(gm_uring_finish(&op, 50, &chain, &done), -EINVAL);
	assert_int_equal(done, 0);
	assert_int_equal(gm_chain_done(&chain, GM_CHAIN_WRITABLE), 50);
	op.buffers = NULL;
	gm_uring_unregister(&buffers);
	assert_int_equal(gm_log_count(log, 0, 0), 1);
	assert_ok(gm_discard(space, 0, PAGE, GM_DISCARD_NOW, 0, &freed, &err));
	assert_zero(0, PAGE);
	/* What no kernel answers. */
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_int_equal(prepare(fd, 0, &chain, GM_CHAIN_WRITABLE), 0);
	assert_int_equal(gm_uring_finish(&op, INT32_MIN, &chain, &done), -EPROTO);
	assert_int_equal(gm_chain_done(&chain, GM_CHAIN_WRITABLE), 0);
	assert_ok(gm_log_destroy(log, &err));
	close(fd);
	stop();
	close_ring();
	free(bytes);
}

static void test_large_memory_takes_several_buffers(void **state)
{
	struct iovec table[4];
	struct gm_pin holds[4];
	struct gm_uring_buffers buffers = {.slices = table, .pins = holds, .room = 4};

	(void)state;
	open_ring();
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.backing = BLOCK(.len = GIB(2) + PAGE, .backing = GM_BACKING_MEMFD,
			     .reserve = GM_RESERVE_NONE)),
		NULL, &err));
	/* Its pages are not wanted here. */
	fault_set(
		&(struct fault_plan){.fn = FAULT_gm_sys_uring_register, .nth = 1, .error = EPERM});
	assert_fails(gm_uring_register(&buffers, ring.fd, space, 0, GIB(2) + PAGE, &err), EPERM,
		"with 3 buffers");
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(table[1].iov_len, GIB(1));
	assert_int_equal(table[2].iov_len, PAGE);
	assert_int_equal(buffers.nr, 0);
	stop();
	close_ring();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_pieces_are_read_and_written_at_once),
		cmocka_unit_test(test_what_fell_short_is_prepared_again),
		cmocka_unit_test(test_memory_may_go_while_the_kernel_uses_it),
		cmocka_unit_test(test_registered_buffers_are_used_where_they_serve),
		cmocka_unit_test(test_registered_memory_is_neither_discarded_nor_marked),
		cmocka_unit_test(test_large_memory_takes_several_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream.c - files, disks and buffers to and from guest memory: what is moved, what is counted,
 * and what is refused.
 */
#include <errno.h>
#include <guestmem/stream.h>
#include <sys/socket.h>

#include "provider.h"
#include "stream_memory.h"

/* ---- files ---- */

static void test_a_file_is_read_and_written_at_a_position(void **state)
{
	uint8_t *bytes = noise(3 * PAGE, 1);
	uint8_t back[2 * PAGE];
	int fd = file_of(bytes, 3 * PAGE);
	struct gm_stream s;
	size_t done = 77;

	(void)state;
	start_memory();
	assert_ok(gm_stream_init_file(&s, fd, 100, &err));
	assert_int_equal(gm_stream_read(&s, reader, 50, 6000, EXACT, &done), 0);
	assert_int_equal(done, 6000);
	assert_int_equal(gm_stream_tell(&s), 6100);
	assert_memory(50, bytes + 100, 6000);
	assert_zero(0, 50);
	assert_zero(6050, 2 * PAGE - 6050);
	/* The next ones go on there; the file's own position is not used. */
	assert_int_equal(gm_stream_read(&s, reader, 0, 10, EXACT, &done), 0);
	assert_memory(0, bytes + 6100, 10);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	/* And back, behind what is there. */
	assert_int_equal(gm_stream_seek(&s, 20000), 0);
	assert_int_equal(gm_stream_write(&s, reader, 50, 6000, EXACT, &done), 0);
	assert_int_equal(done, 6000);
	assert_int_equal(pread(fd, back, 6000, 20000), 6000);
	assert_memory_equal(back, bytes + 100, 6000);
	assert_int_equal(gm_stream_flush(&s, 0), 0);
	assert_int_equal(gm_stream_flush(&s, GM_STREAM_METADATA), 0);
	assert_int_equal(gm_stream_flush(&s, 2), -EINVAL);
	stop();
	close(fd);
	free(bytes);
}

static void test_the_end_of_a_file_is_told_apart(void **state)
{
	uint8_t *bytes = noise(5000, 2);
	int fd = file_of(bytes, 5000);
	struct gm_stream s;
	size_t done;

	(void)state;
	start_memory();
	/* By the file's own position, and by one of the stream's. */
	for (int positioned = 0; positioned < 2; positioned++) {
		if (positioned)
			assert_ok(gm_stream_init_file(&s, fd, 0, &err));
		else
			assert_ok(gm_stream_init_fd(&s, fd, &err));
		assert_int_equal(gm_stream_read(&s, reader, 0, 2 * PAGE, 0, &done), 0);
		assert_int_equal(done, 5000);
		assert_memory(0, bytes, 5000);
		assert_zero(5000, 2 * PAGE - 5000);
		assert_int_equal(gm_stream_read(&s, reader, 0, 10, 0, &done), 0);
		assert_int_equal(done, 0);
		assert_int_equal(gm_stream_read(&s, reader, 0, 10, EXACT, &done), -ENODATA);
		assert_int_equal(done, 0);
	}
	assert_int_equal(gm_stream_seek(&s, 1000), 0);
	assert_int_equal(gm_stream_read(&s, reader, 0, 2 * PAGE, EXACT, &done), -ENODATA);
	assert_int_equal(done, 4000);
	assert_memory(0, bytes + 1000, 4000);
	assert_int_equal(gm_stream_tell(&s), 5000);
	stop();
	close(fd);
	free(bytes);
}

static void test_positions_end_at_2_to_the_63(void **state)
{
	int fd = file_of("x", 1);
	struct gm_stream s;
	size_t done = 5;

	(void)state;
	start_memory();
	assert_fails(gm_stream_init_file(&s, fd, UINT64_C(1) << 63, &err), EINVAL, "2^63");
	assert_ok(gm_stream_init_file(&s, fd, INT64_MAX, &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 2, 0, &done), -EOVERFLOW);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_write(&s, reader, 0, 2, EXACT, &done), -EOVERFLOW);
	assert_int_equal(gm_stream_write(&s, reader, 0, 1, EXACT, &done), -EOVERFLOW);
	assert_int_equal(gm_stream_seek(&s, UINT64_MAX), -EINVAL);
	assert_int_equal(gm_stream_tell(&s), INT64_MAX);
	assert_int_equal(gm_stream_seek(&s, INT64_MAX - 1), 0);
	assert_int_equal(gm_stream_read(&s, reader, 0, 1, 0, &done), 0);
	assert_int_equal(done, 0);
	stop();
	close(fd);
}

static void test_what_an_fd_cannot_do_is_refused(void **state)
{
	struct gm_stream s = {.kind = 99};
	int fds[2];
	size_t done;
	int fd;

	(void)state;
	start_memory();
	assert_fails(gm_stream_init_fd(&s, -1, &err), EBADF, "fd -1");
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_fails(gm_stream_init_file(&s, fds[0], 0, &err), ESPIPE, "positions");
	assert_fails(gm_stream_init_socket(&s, fds[0], 0, &err), ENOTSOCK, "socket");
	assert_fails(gm_stream_init_socket(&s, fds[0], MSG_TRUNC, &err), EINVAL, "flags 0x20");
	assert_int_equal(s.kind, 99);
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	assert_int_equal(gm_stream_seek(&s, 0), -ESPIPE);
	assert_int_equal(gm_stream_write(&s, reader, 0, 5, 0, &done), -EBADF);
	assert_int_equal(gm_stream_flush(&s, 0), 0);
	assert_int_equal(gm_stream_read(&s, reader, 0, 5, 2, &done), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(gm_stream_write(&s, reader, 0, 5, EXACT, &done), -EBADF);
	assert_int_equal(done, 0);
	close(fd);
	/* A stream that nobody made. */
	memset(&s, 0, sizeof(s));
	assert_int_equal(gm_stream_read(&s, reader, 0, 5, 0, &done), -EBADF);
	stop();
}

/* ---- the edge rule ---- */

static void test_transfers_follow_the_edge_rule(void **state)
{
	uint8_t *bytes = noise(3 * PAGE, 3);
	int fd = file_of(bytes, 3 * PAGE);
	struct gm_stream s;
	size_t done = 9;

	(void)state;
	start_memory();
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 0, 0, &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_read(&s, reader, 2 * PAGE, 0, 0, NULL), -EFAULT);
	assert_int_equal(gm_stream_read(&s, reader, ROM, 0, EXACT, NULL), -EACCES);
	assert_int_equal(gm_stream_write(&s, reader, ROM, 0, EXACT, NULL), 0);
	assert_int_equal(gm_stream_write(&s, reader, ROM, 0, 4, NULL), -EINVAL);
	assert_int_equal(gm_stream_read(&s, reader, UINT64_MAX, 2, 0, &done), -ERANGE);
	assert_int_equal(gm_stream_tell(&s), 0);
	/* Progress and error come together. */
	for (uint32_t flags = 0; flags < 2; flags++) {
		assert_int_equal(gm_stream_seek(&s, 0), 0);
		assert_int_equal(
			gm_stream_read(&s, reader, PAGE - 10, 2 * PAGE, flags, &done), -EFAULT);
		assert_int_equal(done, PAGE + 10);
		assert_memory(PAGE - 10, bytes, PAGE + 10);
		assert_int_equal(gm_stream_tell(&s), PAGE + 10);
	}
	assert_int_equal(gm_stream_read(&s, reader, ROM, 10, 0, &done), -EACCES);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_write(&s, reader, ROM, PAGE + 1, EXACT, &done), -EFAULT);
	assert_int_equal(done, PAGE);
	/* Up to 2^64. */
	assert_int_equal(gm_stream_seek(&s, 0), 0);
	assert_int_equal(gm_stream_read(&s, reader, TOP + 1, PAGE - 1, EXACT, &done), 0);
	assert_memory(TOP + 1, bytes, PAGE - 1);
	stop();
	close(fd);
	free(bytes);
}

static int no_read(void *ctx, uint64_t off, uint32_t size, uint64_t *ret)
{
	(void)ctx;
	(void)off;
	(void)size;
	*ret = 0;
	return 0;
}

static int no_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)value;
	return 0;
}

static void test_mmio_is_refused_and_memory_of_devices_is_not(void **state)
{
	static const struct gm_device_ops ops = {
		.size = sizeof(ops), .read = no_read, .write = no_write};
	uint8_t *bytes = noise(30000, 4);
	int fd = file_of(bytes, 30000);
	struct gm_chain_elem elems[] = {{10, 100, GM_CHAIN_WRITE, 0},
		{GIB(2) + 3, 9001, GM_CHAIN_WRITE, 0}, {PAGE, 100, GM_CHAIN_WRITE, 0}};
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;

	(void)state;
	start_memory();
	assert_ok(gm_space_add(space,
		DESC(.gpa = GIB(1), .len = PAGE, .kind = GM_REGION_MMIO, .device = &ops), NULL,
		&err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = GIB(2), .kind = GM_REGION_DEVMEM, .backing = BLOCK(.len = 8 * PAGE)),
		NULL, &err));
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(gm_stream_read(&s, reader, GIB(1), 8, 0, &done), -ENOTSUP);
	assert_int_equal(gm_stream_write(&s, reader, GIB(1), 8, EXACT, &done), -ENOTSUP);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_tell(&s), 0);
	/* More than the buffer that they go through. */
	assert_int_equal(gm_stream_read(&s, reader, GIB(2) + 5, 20000, EXACT, &done), 0);
	assert_memory(GIB(2) + 5, bytes, 20000);
	assert_int_equal(gm_stream_seek(&s, 3), 0);
	assert_int_equal(gm_stream_write(&s, reader, GIB(2) + 5, 20000, EXACT, &done), 0);
	assert_int_equal(pread(fd, bytes + 29000, 20, 19990), 20);
	assert_memory_equal(bytes + 29000, bytes + 19987, 13);
	/* Between memory that has slices. */
	assert_int_equal(gm_stream_seek(&s, 5000), 0);
	assert_int_equal(pread(fd, bytes, 30000, 0), 30000);
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, 9201, EXACT, &done), 0);
	assert_memory(10, bytes + 5000, 100);
	assert_memory(GIB(2) + 3, bytes + 5100, 9001);
	assert_memory(PAGE, bytes + 14101, 100);
	stop();
	close(fd);
	free(bytes);
}

static void test_what_the_host_cannot_produce_is_an_error(void **state)
{
	uint8_t *bytes = noise(2 * PAGE, 5);
	int fd = file_of(bytes, 2 * PAGE);
	struct gm_block_info info = {.size = sizeof(info)};
	struct gm_block *block;
	struct gm_stream s;
	size_t done;

	(void)state;
	start(NULL);
	assert_ok(gm_block_create(
		BLOCK(.len = 2 * PAGE, .backing = GM_BACKING_MEMFD, .flags = GM_BLOCK_NO_SEAL),
		&block, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = 0, .len = 2 * PAGE, .block = block), NULL, &err));
	assert_int_equal(gm_block_info(block, &info), 0);
	assert_int_equal(ftruncate(info.fd, (off_t)PAGE), 0);
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 2 * PAGE, EXACT, &done), -EIO);
	assert_int_equal(done, PAGE);
	assert_int_equal(gm_stream_tell(&s), PAGE);
	assert_memory(0, bytes, PAGE);
	assert_int_equal(gm_stream_write(&s, reader, PAGE, 10, 0, &done), -EIO);
	assert_int_equal(done, 0);
	gm_block_put(block);
	stop();
	close(fd);
	free(bytes);
}

/* ---- many pieces, many bytes ---- */

static void test_there_may_be_more_pieces_than_a_call_takes(void **state)
{
	enum { NR = 3000 };
	struct gm_chain_elem *elems = calloc(2 * NR, sizeof(*elems));
	uint8_t *bytes = noise(NR * 5, 13);
	uint8_t *back = malloc(NR * 5);
	int fd = file_of(bytes, NR * 5);
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;

	(void)state;
	start(NULL);
	add(0, KIB(64));
	for (uint64_t i = 0; i < NR; i++) {
		elems[i] = (struct gm_chain_elem){i * 16 + 1, 5, 0, 0};
		elems[NR + i] = (struct gm_chain_elem){i * 16 + 1, 5, GM_CHAIN_WRITE, 0};
	}
	assert_ok(gm_chain_init(&chain, elems, 2 * NR, NULL, &err));
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, NR * 5, 0, &done), 0);
	assert_int_equal(done, NR * 5);
	for (size_t i = 0; i < NR; i++)
		assert_memory(i * 16 + 1, bytes + 5 * i, 5);
	assert_zero(6, 11);
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, 1, EXACT, &done), -ENOSPC);
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, 1, 0, &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(gm_stream_seek(&s, 0), 0);
	assert_int_equal(gm_stream_write_chain(&s, reader, &chain, NR * 5, EXACT, &done), 0);
	assert_int_equal(pread(fd, back, NR * 5, 0), NR * 5);
	assert_memory_equal(back, bytes, NR * 5);
	assert_int_equal(gm_stream_write_chain(&s, reader, &chain, 1, EXACT, &done), -ENODATA);
	stop();
	close(fd);
	free(back);
	free(bytes);
	free(elems);
}

static void test_more_than_the_kernel_moves_at_once_is_moved(void **state)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct gm_stream s;
	size_t done;

	(void)state;
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.gpa = GIB(1), .backing = BLOCK(.len = GIB(5), .backing = GM_BACKING_MEMFD,
					    .reserve = GM_RESERVE_NONE)),
		NULL, &err));
	assert_ok(gm_stream_init_fd(&s, fd, &err));
	assert_int_equal(gm_stream_write(&s, reader, GIB(1), GIB(5), EXACT, &done), 0);
	assert_int_equal(done, GIB(5));
	assert_int_equal(gm_stream_write(&s, reader, GIB(1), GIB(5), 0, &done), 0);
	assert_int_equal(done, 0x7ffff000);
	assert_int_equal(gm_stream_write(&s, reader, GIB(1), GIB(6), EXACT, &done), -EFAULT);
	assert_int_equal(done, GIB(5));
	stop();
	close(fd);
}

/* ---- O_DIRECT ---- */

static void assert_direct_refused(
	struct gm_stream *s, uint64_t gpa, size_t len, uint64_t off, const char *word)
{
	struct gm_chain_elem elem = {gpa, len, GM_CHAIN_WRITE, 0};
	struct gm_chain chain;
	size_t done = 1;

	assert_int_equal(gm_stream_seek(s, off), 0);
	assert_int_equal(gm_stream_read(s, reader, gpa, len, EXACT, &done), -EINVAL);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_write(s, reader, gpa, len, EXACT, &done), -EINVAL);
	assert_int_equal(gm_stream_tell(s), off);
	assert_ok(gm_chain_init(&chain, &elem, 1, NULL, &err));
	assert_fails(gm_stream_check(s, reader, &chain, GM_CHAIN_WRITABLE, &err), EINVAL, word);
}

static void test_direct_io_is_aligned_or_refused(void **state)
{
	char path[] = "/var/tmp/guestmem-test-XXXXXX";
	uint8_t *bytes = noise(3 * PAGE, 14);
	struct gm_chain_elem elems[] = {{PAGE, PAGE, GM_CHAIN_WRITE, 0},
		{0, PAGE, GM_CHAIN_WRITE, 0}, {2 * PAGE, PAGE, GM_CHAIN_WRITE, 0}};
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;
	int fd = mkstemp(path);
	int direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	(void)state;
	unlink(path);
	assert_true(fd >= 0);
	assert_true(direct >= 0);
	assert_int_equal(pwrite(fd, bytes, 3 * PAGE, 0), 3 * PAGE);
	assert_int_equal(fsync(fd), 0);
	start_memory();
	assert_ok(gm_stream_init_file(&s, direct, 0, &err));
	assert_ok(gm_chain_init(&chain, elems, 2, NULL, &err));
	assert_ok(gm_stream_check(&s, reader, &chain, GM_CHAIN_WRITABLE, &err));
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, 2 * PAGE, EXACT, &done), 0);
	assert_memory(PAGE, bytes, PAGE);
	assert_memory(0, bytes + PAGE, PAGE);
	/* The end of the file, and behind it. */
	assert_int_equal(ftruncate(fd, (off_t)(2 * PAGE + 100)), 0);
	assert_int_equal(gm_stream_read(&s, reader, 0, PAGE, EXACT, &done), -ENODATA);
	assert_int_equal(done, 100);
	assert_memory(0, bytes + 2 * PAGE, 100);
	/* The position is there now, which a file's own would be: the end, as for anybody. */
	assert_int_equal(gm_stream_tell(&s), 2 * PAGE + 100);
	assert_int_equal(gm_stream_read(&s, reader, 0, PAGE, 0, &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_read(&s, reader, 0, PAGE, EXACT, &done), -ENODATA);
	assert_int_equal(gm_stream_write(&s, reader, 0, PAGE, EXACT, &done), -EINVAL);
	assert_direct_refused(&s, 1, 512, 0, "gpa 0x1 ");
	assert_direct_refused(&s, PAGE - 256, 512, 0, "of 256 bytes");
	assert_direct_refused(&s, 0, 100, 0, "of 100 bytes");
	assert_direct_refused(&s, 0, PAGE, 100, "position 100");
	/* Nothing is moved if a later piece is refused. */
	elems[1].gpa = 8;
	elems[1].len = 512;
	assert_ok(gm_chain_init(&chain, elems, 2, NULL, &err));
	set(PAGE, "old", 3);
	assert_int_equal(gm_stream_seek(&s, 0), 0);
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, SIZE_MAX, 0, &done), -EINVAL);
	assert_memory(PAGE, "old", 3);
	/* What is no question of alignment is told as such. */
	assert_ok(gm_chain_init(&chain, &elems[2], 1, NULL, &err));
	assert_fails(
		gm_stream_check(&s, reader, &chain, GM_CHAIN_WRITABLE, &err), EFAULT, "gpa 0x2000");
	set(0, bytes, PAGE);
	assert_int_equal(gm_stream_seek(&s, PAGE), 0);
	assert_int_equal(gm_stream_write(&s, reader, 0, PAGE, EXACT, &done), 0);
	assert_int_equal(gm_stream_flush(&s, 0), 0);
	assert_int_equal(pread(fd, bytes + PAGE, PAGE, (off_t)PAGE), PAGE);
	assert_memory_equal(bytes + PAGE, bytes, PAGE);
	stop();
	close(direct);
	close(fd);
	free(bytes);
}

/* ---- buffers ---- */

static void test_buffers_are_files_in_memory(void **state)
{
	uint8_t *bytes = noise(6000, 15);
	uint8_t buf[6000];
	struct gm_stream s;
	size_t done;

	(void)state;
	start_memory();
	gm_stream_init_source(&s, bytes, 6000);
	assert_int_equal(gm_stream_read(&s, reader, 20, 5000, EXACT, &done), 0);
	assert_memory(20, bytes, 5000);
	assert_int_equal(gm_stream_read(&s, reader, 20, 2000, EXACT, &done), -ENODATA);
	assert_int_equal(done, 1000);
	assert_memory(20, bytes + 5000, 1000);
	assert_int_equal(gm_stream_read(&s, reader, 20, 2000, 0, &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_write(&s, reader, 20, 1, 0, &done), -EBADF);
	assert_int_equal(gm_stream_seek(&s, 6001), -EINVAL);
	assert_int_equal(gm_stream_seek(&s, 10), 0);
	assert_int_equal(gm_stream_read(&s, reader, 2 * PAGE - 5, 20, EXACT, &done), -EFAULT);
	assert_int_equal(done, 5);
	assert_int_equal(gm_stream_tell(&s), 15);

	set(0, bytes, 6000);
	memset(buf, 0, sizeof(buf));
	gm_stream_init_buffer(&s, buf, 5000);
	assert_int_equal(gm_stream_write(&s, reader, 0, 3000, EXACT, &done), 0);
	assert_int_equal(gm_stream_write(&s, reader, 3000, 3000, EXACT, &done), -ENOSPC);
	assert_int_equal(done, 2000);
	assert_memory_equal(buf, bytes, 5000);
	assert_int_equal(buf[5000], 0);
	assert_int_equal(gm_stream_write(&s, reader, 3000, 3000, 0, &done), 0);
	assert_int_equal(done, 0);
	gm_stream_fini(&s);
	gm_stream_fini(NULL);
	stop();
	free(bytes);
}

static void test_a_growing_buffer_takes_what_comes(void **state)
{
	uint8_t *bytes = noise(MIB(1), 16);
	struct gm_stream s;
	size_t done;
	size_t len;

	(void)state;
	start(NULL);
	add(0, MIB(1));
	set(0, bytes, MIB(1));
	gm_stream_init_growing(&s, MIB(1) + 100);
	assert_null(gm_stream_data(&s, &len));
	assert_int_equal(gm_stream_write(&s, reader, 0, 10, EXACT, &done), 0);
	assert_int_equal(gm_stream_write(&s, reader, 10, MIB(1) - 10, EXACT, &done), 0);
	assert_memory_equal(gm_stream_data(&s, &len), bytes, MIB(1));
	assert_int_equal(len, MIB(1));
	assert_int_equal(gm_stream_write(&s, reader, 0, 200, EXACT, &done), -ENOSPC);
	assert_int_equal(done, 100);
	/* Over what is there, and read again. */
	assert_int_equal(gm_stream_seek(&s, 5), 0);
	assert_int_equal(gm_stream_write(&s, reader, 100, 50, 0, &done), 0);
	gm_stream_data(&s, &len);
	assert_int_equal(len, MIB(1) + 100);
	assert_int_equal(gm_stream_seek(&s, 0), 0);
	assert_int_equal(gm_stream_read(&s, reader, 1000, 55, EXACT, &done), 0);
	assert_memory(1000, bytes, 5);
	assert_memory(1005, bytes + 100, 50);
	gm_stream_fini(&s);
	stop();
	free(bytes);
}

/* ---- every way that memory is provided ---- */

static void test_every_provider_gets_the_same_bytes(void **state)
{
	uint8_t *bytes = noise(PROVIDED, 17);
	uint8_t *memory = malloc(PROVIDED);
	uint8_t *want = malloc(PROVIDED);
	struct rng rng = {test_seed(18)};
	int fd = file_of(bytes, PROVIDED);
	int out = file_of("", 0);

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct provided p;

		provide(i, &p);
		memset(want, 0, PROVIDED);
		p.set(&p, want);
		for (int j = 0; j < 20; j++) {
			size_t at = rng_below(&rng, PROVIDED);
			size_t len = rng_below(&rng, PROVIDED - at) + 1;
			size_t off = rng_below(&rng, PROVIDED - len + 1);
			struct gm_stream s;
			size_t done;

			assert_ok(gm_stream_init_file(&s, fd, off, &err));
			assert_int_equal(
				gm_stream_read(&s, p.reader, p.base + at, len, EXACT, &done), 0);
			memcpy(want + at, bytes + off, len);
			assert_ok(gm_stream_init_file(&s, out, off, &err));
			assert_int_equal(gm_stream_write(&s, p.reader, p.base, PROVIDED,
						 j % 2 ? EXACT : 0, &done),
				0);
			assert_int_equal(done, PROVIDED);
			assert_int_equal(pread(out, memory, PROVIDED, (off_t)off), PROVIDED);
			if (memcmp(memory, want, PROVIDED) != 0)
				fail_msg("%s: what was written is something else", p.name);
		}
		p.get(&p, memory);
		if (memcmp(memory, want, PROVIDED) != 0)
			fail_msg("%s: what was read is something else", p.name);
		unprovide(&p);
	}
	close(out);
	close(fd);
	free(want);
	free(memory);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_is_read_and_written_at_a_position),
		cmocka_unit_test(test_the_end_of_a_file_is_told_apart),
		cmocka_unit_test(test_positions_end_at_2_to_the_63),
		cmocka_unit_test(test_what_an_fd_cannot_do_is_refused),
		cmocka_unit_test(test_transfers_follow_the_edge_rule),
		cmocka_unit_test(test_mmio_is_refused_and_memory_of_devices_is_not),
		cmocka_unit_test(test_what_the_host_cannot_produce_is_an_error),
		cmocka_unit_test(test_there_may_be_more_pieces_than_a_call_takes),
		cmocka_unit_test(test_more_than_the_kernel_moves_at_once_is_moved),
		cmocka_unit_test(test_direct_io_is_aligned_or_refused),
		cmocka_unit_test(test_buffers_are_files_in_memory),
		cmocka_unit_test(test_a_growing_buffer_takes_what_comes),
		cmocka_unit_test(test_every_provider_gets_the_same_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.c - kinds of streams, and their positions.
 *
 * What an fd is is asked once, when a stream is made; a transfer makes no system call but its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/error.h"
#include "memory/access.h"
#include "memory/chain.h"
#include "memory/stream.h"

#define OFF_MAX ((uint64_t)INT64_MAX)

/* O_DIRECT where the kernel does not tell what it wants. */
#define DIRECT_ALIGN 512u

#define MSG_ALLOWED (MSG_DONTWAIT | MSG_MORE | MSG_EOR | MSG_WAITALL | MSG_PEEK)

static int refuse(struct gm_error *err, int rc, int fd, const char *what)
{
	return gm_error_set(err, rc, 0, 0, "stream: %s fd %d: %s", what, fd, gm_error_word(rc));
}

static int find_direct(struct gm_stream *stream)
{
	int flags = gm_sys_open_flags(stream->fd);
	int rc;

	if (flags < 0)
		return flags;
	if (!(flags & O_DIRECT))
		return 0;
	rc = gm_sys_direct_align(stream->fd, &stream->mem_align, &stream->off_align);
	if (rc == -ENOTSUP) {
		stream->mem_align = DIRECT_ALIGN;
		stream->off_align = DIRECT_ALIGN;
		rc = 0;
	}
	/* Without any the file system does it by its cache, whatever the flag says. */
	if (!rc && stream->mem_align && stream->off_align)
		stream->flags |= GM_STREAM_DIRECT;
	return rc;
}

/*
 * Does it keep messages apart, though it is no socket? A pipe made with O_DIRECT, of which only the end for writing
 * tells, and TUN, TAP and macvtap, which alone answer to TUNGETIFF (a terminal might have another use for the number).
 */
static bool keeps_messages(int fd, const struct stat *st)
{
	struct ifreq ifr = {0};
	struct winsize size;
	int flags;

	if (S_ISFIFO(st->st_mode)) {
		flags = gm_sys_open_flags(fd);
		return flags >= 0 && (flags & O_DIRECT);
	}
	return S_ISCHR(st->st_mode) && gm_sys_ioctl(fd, TIOCGWINSZ, &size) &&
	       gm_sys_ioctl(fd, TUNGETIFF, &ifr) == 0;
}

int gm_stream_init_socket(struct gm_stream *stream, int fd, int flags, struct gm_error *err)
{
	struct gm_stream made = {.kind = GM_STREAM_SOCKET, .fd = fd, .msg_flags = flags};
	int domain;
	int type;
	int rc;

	if (flags & ~MSG_ALLOWED)
		return gm_error_set(err, -EINVAL, 0, 0,
			"stream: flags 0x%x of socket fd %d are not supported",
			(unsigned int)(flags & ~MSG_ALLOWED), fd);
	rc = gm_sys_socket_kind(fd, &domain, &type);
	if (rc)
		return refuse(err, rc, fd, "cannot ask for the type of socket");
	if (type != SOCK_STREAM)
		made.flags |= GM_STREAM_MESSAGE;
	if (flags & MSG_PEEK)
		made.flags |= GM_STREAM_PEEK;
	*stream = made;
	return 0;
}

/* With @positioned only files and disks. */
static int init_fd(
	struct gm_stream *stream, int fd, bool positioned, uint64_t off, struct gm_error *err)
{
	struct gm_stream made = {
		.kind = positioned ? GM_STREAM_FILE : GM_STREAM_FD, .fd = fd, .off = off};
	struct stat st;
	int rc = gm_sys_fstat(fd, &st);

	if (rc)
		return refuse(err, rc, fd, "cannot look at");
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
		made.flags |= GM_STREAM_DISK;
		rc = find_direct(&made);
		if (rc)
			return refuse(err, rc, fd, "cannot ask for the alignment of");
	} else if (positioned) {
		return refuse(err, -ESPIPE, fd, "there are no positions in");
	} else if (S_ISSOCK(st.st_mode)) {
		return gm_stream_init_socket(stream, fd, 0, err);
	} else if (keeps_messages(fd, &st)) {
		made.flags |= GM_STREAM_MESSAGE;
	}
	*stream = made;
	return 0;
}

int gm_stream_init_fd(struct gm_stream *stream, int fd, struct gm_error *err)
{
	return init_fd(stream, fd, false, 0, err);
}

int gm_stream_init_file(struct gm_stream *stream, int fd, uint64_t off, struct gm_error *err)
{
	if (off > OFF_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"stream: position %" PRIu64 " of fd %d is above 2^63 - 1", off, fd);
	return init_fd(stream, fd, true, off, err);
}

/* Field by field: for the whole structure at once compilers take a string instruction, which costs 15 ns. */
static inline __attribute__((always_inline)) void init_buffer(
	struct gm_stream *stream, uint32_t kind, void *buf, size_t len)
{
	stream->kind = kind;
	stream->fd = -1;
	stream->flags = 0;
	stream->msg_flags = 0;
	stream->mem_align = 0;
	stream->off_align = 0;
	stream->off = 0;
	stream->len = len;
	stream->cap = 0;
	stream->max = 0;
	stream->buf = buf;
	stream->ops = (struct gm_stream_ops){0};
	memset(stream->reserved, 0, sizeof(stream->reserved));
}

void gm_stream_init_buffer(struct gm_stream *stream, void *buf, size_t len)
{
	init_buffer(stream, GM_STREAM_BUFFER, buf, len);
}

void gm_stream_init_source(struct gm_stream *stream, const void *buf, size_t len)
{
	init_buffer(stream, GM_STREAM_SOURCE, (void *)(uintptr_t)buf, len);
}

void gm_stream_init_growing(struct gm_stream *stream, size_t max)
{
	*stream = (struct gm_stream){
		.kind = GM_STREAM_GROWING, .fd = -1, .max = max ? max : SIZE_MAX / 2};
}

int gm_stream_init_ops(
	struct gm_stream *stream, const struct gm_stream_ops *ops, struct gm_error *err)
{
	struct gm_stream made = {.kind = GM_STREAM_OPS, .fd = -1};
	int rc = gm_opts_copy(&made.ops, sizeof(made.ops), ops, sizeof(made.ops));

	if (rc)
		return gm_opts_error(err, rc, "stream");
	if (!made.ops.readv && !made.ops.writev)
		return gm_error_set(err, -EINVAL, 0, 0, "stream: it has neither readv nor writev");
	*stream = made;
	return 0;
}

int gm_stream_keep_messages(struct gm_stream *stream)
{
	if (stream->kind != GM_STREAM_FD && stream->kind != GM_STREAM_OPS &&
		stream->kind != GM_STREAM_SOCKET)
		return -EINVAL;
	stream->flags |= GM_STREAM_MESSAGE;
	return 0;
}

void gm_stream_fini(struct gm_stream *stream)
{
	if (!stream)
		return;
	if (stream->kind == GM_STREAM_GROWING)
		gm_sys_free(stream->buf);
	*stream = (struct gm_stream){.fd = -1};
}

int gm_stream_seek(struct gm_stream *stream, uint64_t off)
{
	if (stream->kind != GM_STREAM_FILE && !gm_stream_is_buffer(stream))
		return -ESPIPE;
	if (off > (stream->kind == GM_STREAM_FILE ? OFF_MAX : stream->len))
		return -EINVAL;
	stream->off = off;
	return 0;
}

uint64_t gm_stream_tell(const struct gm_stream *stream)
{
	return stream->off;
}

const void *gm_stream_data(const struct gm_stream *stream, size_t *ret_len)
{
	*ret_len = gm_stream_is_buffer(stream) ? stream->len : 0;
	return *ret_len ? stream->buf : NULL;
}

int gm_stream_flush(struct gm_stream *stream, uint32_t flags)
{
	int rc;

	if (flags & ~GM_STREAM_METADATA)
		return -EINVAL;
	if (stream->kind == GM_STREAM_OPS)
		return stream->ops.flush ? stream->ops.flush(stream->ops.ctx) : 0;
	if (!(stream->flags & GM_STREAM_DISK))
		return 0;
	do {
		rc = gm_sys_sync(stream->fd, !(flags & GM_STREAM_METADATA));
	} while (rc == -EINTR);
	return rc;
}

/* ---- transfers ---- */

/* Direct I/O that is refused at a position behind the end, where a short read leaves it: there is nothing to read. */
static bool is_at_end(const struct gm_transfer *t)
{
	struct stat st;

	return t->side == GM_CHAIN_WRITABLE && t->stream->kind == GM_STREAM_FILE &&
	       gm_sys_fstat(t->stream->fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size <= t->stream->off;
}

int gm_stream_run(const struct gm_transfer *t, size_t *done)
{
	struct gm_stream *stream = t->stream;
	int rc = 0;

	if (gm_stream_is_buffer(stream))
		return gm_stream_move_buffer(t, 0, done);
	if (stream->flags & GM_STREAM_DIRECT)
		rc = gm_stream_check_direct(t, NULL);
	if (rc == -EINVAL && is_at_end(t))
		return gm_transfer_end(t);
	return rc ? rc : gm_stream_move(t, done);
}

/* Behind the call as few functions return as can be. */
static inline __attribute__((always_inline)) int over_chain(
	struct gm_transfer *t, uint32_t flags, size_t *done)
{
	uint64_t left = gm_chain_left(t->chain, t->side);
	size_t count = 0;
	int rc = 0;

	if (flags & ~GM_STREAM_EXACT)
		return gm_access_end(done, 0, -EINVAL);
	t->exact = flags & GM_STREAM_EXACT;
	if (t->len > left && t->exact)
		return gm_access_end(done, 0, t->side == GM_CHAIN_WRITABLE ? -ENOSPC : -ENODATA);
	if (t->len > left)
		t->len = (size_t)left;
	if (t->len && gm_transfer_passes_end(t))
		return gm_access_end(done, 0, -EOVERFLOW);
	if (t->len && t->stream->kind - 1u < GM_STREAM_SOCKET &&
		!(t->stream->flags & GM_STREAM_DIRECT))
		rc = gm_stream_move(t, &count);
	else if (t->len)
		rc = gm_stream_run(t, &count);
	return gm_access_end(done, count, rc);
}

int gm_stream_read_chain(struct gm_stream *stream, struct gm_reader *reader, struct gm_chain *chain,
	size_t len, uint32_t flags, size_t *done)
{
	struct gm_transfer t = {stream, reader, chain, GM_CHAIN_WRITABLE, len, false};

	return over_chain(&t, flags, done);
}

int gm_stream_write_chain(struct gm_stream *stream, struct gm_reader *reader,
	struct gm_chain *chain, size_t len, uint32_t flags, size_t *done)
{
	struct gm_transfer t = {stream, reader, chain, GM_CHAIN_READABLE, len, false};

	return over_chain(&t, flags, done);
}

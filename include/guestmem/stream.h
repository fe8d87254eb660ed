/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.h - bytes from files, sockets, pipes, buffers and the caller's own functions straight to
 * guest memory, and back.
 *
 * A transfer pins the memory, leaves the section, and makes one vectored system call for as many slices as there
 * are, up to 1024: no bytes are copied on the way. More than 64 need 90 KiB of stack. (Memory that is reached by
 * messages or single accesses only goes through a buffer on the stack. MMIO is refused: -ENOTSUP.) It may block, so
 * it takes a reader that is in no section.
 *
 * Up to: without GM_STREAM_EXACT a transfer is like read(2) and write(2): it does not block again when some bytes
 * were done. It returns 0 and how many; 0 bytes are the end of the stream. From files and buffers all is read that
 * there is.
 *
 * Messages: where these are kept apart (sockets other than SOCK_STREAM, TUN, TAP and macvtap, what is written to a
 * pipe with O_DIRECT, gm_stream_keep_messages()) each transfer is one message, in one call: -EMSGSIZE, with nothing
 * done, if its memory is in too many pieces for that. A longer message that comes is cut off, a shorter one is the
 * end of an exact transfer.
 *
 * Exact: with GM_STREAM_EXACT it goes on until all is done. The end of the stream is -ENODATA, and one that takes no
 * more is -ENOSPC.
 *
 * @done is written on success and on error alike. Interrupted calls are made again; -EAGAIN comes with what was
 * done. Bytes are placed in order without gaps, however short the calls fall. For guest addresses the rule of
 * access.h holds at gpa + @done. Where the kernel cannot reach the memory of a slice (-EFAULT of a system call,
 * which the fault guard does not see) it is -EIO; bytes behind @done may then have been written.
 *
 * Writing to a pipe that nobody reads raises SIGPIPE, and to a file past RLIMIT_FSIZE SIGXFSZ, unless they are
 * ignored. Sockets never raise SIGPIPE.
 */
#ifndef GUESTMEM_STREAM_H
#define GUESTMEM_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <guestmem/chain.h>
#include <guestmem/error.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of a transfer. */
#define GM_STREAM_EXACT 1u /* all or an error */

/* Flags of gm_stream_flush(). */
#define GM_STREAM_METADATA 1u /* times and owners too: fsync(2) in the place of fdatasync(2) */

/**
 * struct gm_stream_ops - a stream of the caller
 * @size:   sizeof(struct gm_stream_ops)
 * @readv:  optional: puts bytes into @nr slices, at least one of them filled before the next is
 *          begun. *ret_done is how many, also with an error; 0 of them without one is the end
 * @writev: optional: takes bytes from @nr slices in the same way
 * @flush:  optional
 * @ctx:    passed to each
 *
 * They are called in no section and may sleep. They return 0 or a negative errno value, which the
 * transfer returns; -EINTR makes it go on. What cannot be (more bytes than were asked for, a positive
 * code, one below -4095) is -EPROTO.
 */
struct gm_stream_ops {
	size_t size;
	int (*readv)(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done);
	int (*writev)(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done);
	int (*flush)(void *ctx);
	void *ctx;
};

/**
 * struct gm_stream - where bytes come from or go to; all of it is private
 *
 * A plain value: a copy is a stream of its own at the same position (but a growing buffer has one
 * owner). It owns nothing but the memory of a growing buffer. One thread at a time uses it.
 */
struct gm_stream {
	uint32_t kind;
	int32_t fd;
	uint32_t flags;
	int32_t msg_flags;
	uint32_t mem_align, off_align;
	uint64_t off, len, cap, max;
	uint8_t *buf;
	struct gm_stream_ops ops;
	uint64_t reserved[4];
};

/**
 * gm_stream_init_fd() - what has no position, or keeps it itself: pipe, terminal, standard output, file
 * @stream: filled in
 * @fd:     borrowed as long as @stream is used
 * @err:    optional
 *
 * A socket becomes one of gm_stream_init_socket() without flags. If @fd is a file with O_DIRECT its
 * alignment is asked for. Returns 0 or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_stream_init_fd(struct gm_stream *stream, int fd, struct gm_error *err);

/**
 * gm_stream_init_file() - a file or disk at a position of the stream's own
 * @stream: filled in
 * @fd:     borrowed as long as @stream is used
 * @off:    first byte
 * @err:    optional
 *
 * Transfers move the position by what was done. Returns as gm_stream_init_fd(), -EINVAL (@off is
 * above 2^63 - 1), -ESPIPE (no file or disk).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_stream_init_file(
	struct gm_stream *stream, int fd, uint64_t off, struct gm_error *err);

/**
 * gm_stream_init_socket() - a connected socket
 * @stream: filled in
 * @fd:     borrowed as long as @stream is used
 * @flags:  MSG_DONTWAIT, MSG_MORE, MSG_EOR, MSG_WAITALL, MSG_PEEK: for each send(2) or recv(2)
 * @err:    optional
 *
 * With MSG_PEEK a transfer is one call, as of messages.
 * Returns 0, -EINVAL (other flags), -ENOTSOCK.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_stream_init_socket(struct gm_stream *stream, int fd, int flags, struct gm_error *err);

/**
 * gm_stream_init_buffer() - memory of the caller, read from or written to at one position
 * @stream: filled in
 * @buf:    @len bytes, borrowed as long as @stream is used
 * @len:    bytes
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_stream_init_buffer(struct gm_stream *stream, void *buf, size_t len);

/** gm_stream_init_source() - the same of memory that is read only: writing is -EBADF. Threads: any. Since: 0.1. */
GM_API void gm_stream_init_source(struct gm_stream *stream, const void *buf, size_t len);

/**
 * gm_stream_init_growing() - a buffer that grows as it is written
 * @stream: filled in; gm_stream_fini() frees the memory
 * @max:    bytes that it may have; 0 = no limit
 *
 * The one kind whose transfers allocate: -ENOMEM, and -ENOSPC at @max.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_stream_init_growing(struct gm_stream *stream, size_t max);

/**
 * gm_stream_init_ops() - functions of the caller
 * @stream: filled in
 * @ops:    borrowed, copied
 * @err:    optional
 *
 * Returns 0, -EINVAL (neither reads nor writes), -E2BIG (@ops of a newer version).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_stream_init_ops(
	struct gm_stream *stream, const struct gm_stream_ops *ops, struct gm_error *err);

/**
 * gm_stream_keep_messages() - say that a device or the caller's functions keep messages apart
 * @stream: borrowed; of gm_stream_init_fd(), gm_stream_init_socket() or gm_stream_init_ops()
 *
 * For what is not known to do so, see above. Returns 0 or -EINVAL (files and buffers do not).
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_keep_messages(struct gm_stream *stream);

/**
 * gm_stream_fini() - free what a growing buffer has; nothing for other kinds
 * @stream: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_stream_fini(struct gm_stream *stream);

/**
 * gm_stream_seek() - set the position of a file or buffer
 * @stream: borrowed
 * @off:    byte
 *
 * No system call. Returns 0, -EINVAL (above 2^63 - 1, or behind a buffer's end), -ESPIPE (no position).
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_seek(struct gm_stream *stream, uint64_t off);

/** gm_stream_tell() - the position; 0 for what has none. Threads: owner only. Since: 0.1. */
GM_API uint64_t gm_stream_tell(const struct gm_stream *stream);

/**
 * gm_stream_data() - what is in a buffer
 * @stream:  borrowed
 * @ret_len: bytes
 *
 * Returns its first byte, borrowed until the next transfer; NULL if it is no buffer, or an empty one.
 * Threads: owner only. Since: 0.1.
 */
GM_API const void *gm_stream_data(const struct gm_stream *stream, size_t *ret_len);

/**
 * gm_stream_flush() - let what was written reach the disk
 * @stream: borrowed
 * @flags:  GM_STREAM_METADATA or 0
 *
 * Files: fdatasync(2) or fsync(2). The caller's functions: @flush. Others: nothing.
 * Returns 0, -EINVAL (unknown flags), or what the kernel or @flush answered.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_flush(struct gm_stream *stream, uint32_t flags);

/**
 * gm_stream_check() - would a transfer be refused, and why?
 * @stream: borrowed
 * @reader: borrowed, in no section
 * @chain:  borrowed; nothing is consumed
 * @side:   GM_CHAIN_WRITABLE: what is left is to be read from the stream; GM_CHAIN_READABLE: written to it
 * @err:    optional: names the address, and with O_DIRECT also the position and the alignment
 *
 * With O_DIRECT address, length and position of each slice must be multiples of what the file
 * system asks for. Transfers refuse others with -EINVAL before anything is moved; this says which.
 * Returns 0, -EINVAL, or what gm_pin_slice() returns.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_check(const struct gm_stream *stream, struct gm_reader *reader,
	const struct gm_chain *chain, enum gm_chain_side side, struct gm_error *err);

/**
 * gm_stream_read() - from a stream to guest memory
 * @stream: borrowed
 * @reader: borrowed, in no section
 * @gpa:    first guest physical address
 * @len:    bytes; with 0 the address is checked
 * @flags:  GM_STREAM_EXACT or 0
 * @done:   optional: bytes that were moved
 *
 * Returns 0; -ENODATA (exact: the end); -EAGAIN; -EINVAL (unknown flags; O_DIRECT and not aligned);
 * -EOVERFLOW (the position would pass 2^63 - 1); -EMSGSIZE; -EBADF (this kind cannot be read);
 * -ENOTSUP (MMIO); -EFAULT, -EACCES, -ERANGE, -EIO as above; what the kernel or the caller's
 * function answered.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_read(struct gm_stream *stream, struct gm_reader *reader, uint64_t gpa,
	size_t len, uint32_t flags, size_t *done);

/**
 * gm_stream_write() - from guest memory to a stream
 * @stream: borrowed
 * @reader: borrowed, in no section
 * @gpa:    first guest physical address
 * @len:    bytes; with 0 the address is checked
 * @flags:  GM_STREAM_EXACT or 0
 * @done:   optional: bytes that were moved
 *
 * Returns as gm_stream_read(); -ENOSPC (exact: it takes no more) in the place of -ENODATA.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_write(struct gm_stream *stream, struct gm_reader *reader, uint64_t gpa,
	size_t len, uint32_t flags, size_t *done);

/**
 * gm_stream_read_chain() - from a stream to the writable side of a chain
 * @stream: borrowed
 * @reader: borrowed, in no section
 * @chain:  borrowed; consumed by what was moved
 * @len:    bytes; without GM_STREAM_EXACT it may be more than is left
 * @flags:  GM_STREAM_EXACT or 0
 * @done:   optional: bytes that were moved
 *
 * Returns as gm_stream_read(); -ENOSPC (exact: fewer are left of the chain; nothing was moved).
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_read_chain(struct gm_stream *stream, struct gm_reader *reader,
	struct gm_chain *chain, size_t len, uint32_t flags, size_t *done);

/**
 * gm_stream_write_chain() - from the readable side of a chain to a stream
 * @stream: borrowed
 * @reader: borrowed, in no section
 * @chain:  borrowed; consumed by what was moved
 * @len:    bytes; without GM_STREAM_EXACT it may be more than is left
 * @flags:  GM_STREAM_EXACT or 0
 * @done:   optional: bytes that were moved
 *
 * Returns as gm_stream_write(); -ENODATA (exact: fewer are left of the chain; nothing was moved).
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_stream_write_chain(struct gm_stream *stream, struct gm_reader *reader,
	struct gm_chain *chain, size_t len, uint32_t flags, size_t *done);

#ifdef __cplusplus
}
#endif

#endif

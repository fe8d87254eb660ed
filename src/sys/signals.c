/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * signals.c - counts of eventfds that other processes have too.
 *
 * Whoever has an eventfd's open file can make it blocking and fill it, and a write(2) then waits for ever: it knows no
 * flag against that. The kernel itself never waits. So a read of an empty file is begun as an asynchronous one whose
 * end the kernel tells the eventfd: it ends in the call that begins it. Of what has ended nobody wants to hear: the
 * ring of ends is emptied here.
 */
#include "sys/raw.h"

#include <linux/aio_abi.h>

#define ENDS 128u /* at least; more are never under way, as each is over when the call returns */
#define TRIES 16
#define MAGIC 0xa10a10a1u

/* The ring of ends, which the kernel maps at the context's address. */
struct ring {
	uint32_t id;
	uint32_t nr;
	uint32_t head; /* ours */
	uint32_t tail; /* the kernel's */
	uint32_t magic;
};

int gm_sys_signals_open(struct gm_sys_signals *ret)
{
	aio_context_t context = 0;
	int empty = gm_sys_memfd("signals", 0);

	if (empty < 0)
		return empty;
	if (syscall(SYS_io_setup, ENDS, &context) < 0) {
		int rc = -errno;

		gm_sys_close(empty);
		return rc;
	}
	*ret = (struct gm_sys_signals){.context = context, .empty = empty};
	if (((const struct ring *)context)->magic == MAGIC)
		return 0;
	gm_sys_signals_close(ret);
	return -ENOSYS;
}

int gm_sys_signals_close(struct gm_sys_signals *signals)
{
	gm_sys_close(signals->empty);
	return syscall(SYS_io_destroy, signals->context) ? -errno : 0;
}

/* Several threads may set the head back by what the others took: that is made good by the next. */
static void forget_ends(const struct gm_sys_signals *signals)
{
	struct ring *ring = (struct ring *)signals->context;

	__atomic_store_n(
		&ring->head, __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

int gm_sys_signals_add(const struct gm_sys_signals *signals, int eventfd)
{
	uint8_t byte;
	struct iocb read = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)signals->empty,
		.aio_buf = (uintptr_t)&byte,
		.aio_nbytes = sizeof(byte),
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)eventfd,
	};
	struct iocb *reads = &read;
	long rc = -EAGAIN;

	for (int i = 0; rc == -EAGAIN && i < TRIES; i++) {
		rc = GM_RAW(syscall(SYS_io_submit, signals->context, 1, &reads), SYS_io_submit,
			(long)signals->context, 1, (long)&reads, 0, 0, 0);
		forget_ends(signals);
	}
	return rc < 0 ? (int)rc : 0;
}

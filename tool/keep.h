/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keep.h - what "guestmem serve" and its keeper say to each other: packets of one struct, with descriptors.
 *
 * The keeper has items, each with a number that serve has drawn, a kind, and descriptors:
 *	listener	the socket that monitors connect to. The keeper accepts connections there
 *	connection	a monitor that was accepted; serve has not yet made a guest of it
 *	guest		userfaultfd, record (record.h), and a pidfd if there is one. Takes the place of its connection
 * A serve that arrives is given all of them.
 */
#ifndef TOOL_KEEP_H
#define TOOL_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEEP_MAGIC 0x31706b67u /* "gkp1" */
#define KEEP_FDS 3
#define KEEP_WAITING_MAX 64 /* connections of which no guest was made yet */

enum keep_op {
	KEEP_HELLO = 1, /* serve: give me what you have */
	KEEP_BUSY,      /* keeper: somebody serves already */
	KEEP_ITEM,      /* both: an item; it takes the place of one with the same number */
	KEEP_DROP,      /* both: it has ended */
	KEEP_END,       /* keeper: that was all */
};

enum keep_kind { KEEP_LISTENER = 1, KEEP_CONNECTION, KEEP_GUEST };

struct keep_packet {
	uint32_t magic;
	uint32_t op;
	uint64_t id;
	uint32_t kind;
	uint32_t nr; /* descriptors */
};

/* False with errno; EAGAIN if it would have to wait longer than the socket's SO_SNDTIMEO. */
bool keep_send(int sock, const struct keep_packet *packet, const int *fds);
/* The descriptors are the caller's. False: nothing came (errno, 0 at the end), or no packet of ours (EPROTO). */
bool keep_recv(int sock, struct keep_packet *ret, int fds[KEEP_FDS]);
void keep_close(const struct keep_packet *packet, const int *fds);
/* A Unix socket of packets that is connected. -1 with errno. */
int keep_connect(const char *path);
/* Random. */
uint64_t keep_number(void);

#endif

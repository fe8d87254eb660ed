/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_conn.h - one connection of a migration: messages to bytes and back, sums, packed pages, descriptors.
 *
 * A socket that does not wait, one message under way in each direction. What it means is the machines' to say, and when
 * to read and write that of migrate_lines.h. A peer can make it use the memory that is made when it is opened, and no
 * more: nothing is allocated because of a length that was received.
 */
#ifndef GM_SERVICES_MIGRATE_CONN_H
#define GM_SERVICES_MIGRATE_CONN_H

#include <guestmem/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/migrate_plan.h"
#include "sys/fds.h"

/* What both ends agreed on, of all connections of an end. Filled in as it becomes known, by who steps. */
struct gm_migrate_terms {
	const struct gm_migrate_region *regions; /* NULL before LAYOUT, of which there is one */
	uint32_t nr;
	uint32_t pages_max;
	uint32_t features; /* agreed on */
	uint32_t codec; /* GM_MIGRATE_RAW, _BY_ZSTD, _BY_LZ4: how pages are packed that we send */
	int32_t level;
	bool source; /* this end is */
	bool sole;   /* there are no bulk connections */
	bool paced;  /* there is a rate: nothing is to queue in the kernel */
	/* Where a LAYOUT that comes is put: GM_MIGRATE_REGIONS_MAX; NULL at the source. */
	struct gm_migrate_region *room;
};

struct gm_migrate_conn;

/*
 * Takes @fd on success, and sets it to not wait, and TCP to send small messages at once. @terms is borrowed. 0,
 * -EPROTOTYPE (no stream socket), -ENOTSUP (the build has no sums), -ENOMEM, or what a system call failed with.
 */
int gm_migrate_conn_create(int fd, const struct gm_migrate_terms *terms,
	struct gm_migrate_conn **ret, struct gm_error *err);
void gm_migrate_conn_free(struct gm_migrate_conn *c); /* closes; NULL is ignored */
int gm_migrate_conn_fd(const struct gm_migrate_conn *c);
/*
 * Which it is, once that and the terms but for regions are known: heads are judged by it. Control until then, and
 * nothing that follows a head is taken. Memory for its messages is made: -ENOMEM, and nothing has changed.
 */
int gm_migrate_conn_is(struct gm_migrate_conn *c, uint32_t slot, uint32_t epoch);
uint32_t gm_migrate_conn_slot(const struct gm_migrate_conn *c);
uint32_t gm_migrate_conn_epoch(const struct gm_migrate_conn *c);

/* ---- what comes ---- */

/*
 * Exactly @len bytes of an opening (at most 64), no more: 1: they are at *ret; 0: not all are there yet; -EPIPE:
 * the end before the first; -ECONNRESET: the end behind it; -EPROTO: descriptors came; or what recvmsg(2) failed
 * with.
 */
int gm_migrate_conn_hear(struct gm_migrate_conn *c, size_t len, const uint8_t **ret);

/* A message that is whole, sum and all. Borrowed until the next gm_migrate_conn_recv(), _hear() or _is(). */
struct gm_migrate_heard {
	struct gm_migrate_msg msg;
	/* PAGES raw or packed: msg.place.nr pages, unpacked, at a multiple of 4096; STATE: msg.len bytes */
	const uint8_t *memory;
	const char *text;   /* REFUSED */
	struct gm_fds *fds; /* LAYOUT: owned by the connection; who takes one sets nr to 0 */
};

/*
 * Reads on, a head and 256 KiB of what follows at most: 1: *ret is a message; 0: not whole yet; -EAGAIN: nothing is
 * there to be read; -EPIPE: the end between two messages; -ECONNRESET: the end within one; -EPROTO: what cannot be;
 * -EBADMSG: a wrong sum, or bytes that do not unpack; -EMFILE: no room for descriptors; or what recvmsg(2) failed
 * with. *ret_why: a constant text with -EPROTO, -EBADMSG and -EMFILE, else NULL. After a failure but -EAGAIN each
 * call has the same.
 */
int gm_migrate_conn_recv(
	struct gm_migrate_conn *c, struct gm_migrate_heard *ret, const char **ret_why);
bool gm_migrate_conn_hears(const struct gm_migrate_conn *c); /* half a message has come */
/* Behind the message that was just received nothing had come, but perhaps the end. */
bool gm_migrate_conn_drained(const struct gm_migrate_conn *c);

/* ---- what goes: one message at a time, gm_migrate_conn_sends() is false before ---- */

bool gm_migrate_conn_sends(
	const struct gm_migrate_conn *c); /* there is something still to be sent */
bool gm_migrate_conn_local(const struct gm_migrate_conn *c);  /* a Unix socket */
size_t gm_migrate_conn_left(const struct gm_migrate_conn *c); /* bytes of it */
/* Bytes of an opening, at most 64: copied. */
void gm_migrate_conn_put(struct gm_migrate_conn *c, const uint8_t *bytes, size_t len);
/* A message whose body is copied: all but PAGES. 0 or -ENOMEM (only if @len > 64 KiB + 16). */
int gm_migrate_conn_say(
	struct gm_migrate_conn *c, uint32_t type, uint64_t number, const void *body, size_t len);
/*
 * LAYOUT of the terms' regions, with @nr_fds descriptors in their order: borrowed until it is sent. 0, -ENOMEM, or
 * -EINVAL: not one for each region that comes so.
 */
int gm_migrate_conn_say_layout(struct gm_migrate_conn *c, const int *fds, uint32_t nr_fds);
/*
 * PAGES. @kind: GM_MIGRATE_RAW: @memory has place->nr pages that nobody changes, borrowed until it is sent; they
 * are packed if that was agreed on and makes them smaller by an eighth. GM_MIGRATE_ZEROS, GM_MIGRATE_LOST: NULL.
 * Returns what kind it became.
 */
uint32_t gm_migrate_conn_say_pages(struct gm_migrate_conn *c, uint64_t number,
	const struct gm_migrate_place *place, uint32_t kind, const uint8_t *memory);
/*
 * Sends on, @most bytes at most: 0: all of it; -EAGAIN: the socket is full, or @most was reached; -EPIPE,
 * -ECONNRESET, or what sendmsg(2) failed with. No SIGPIPE. *ret_sent: bytes, in any case.
 */
int gm_migrate_conn_flush(struct gm_migrate_conn *c, size_t most, size_t *ret_sent);

/* Bytes so far. */
uint64_t gm_migrate_conn_came(const struct gm_migrate_conn *c);
uint64_t gm_migrate_conn_went(const struct gm_migrate_conn *c);

#endif

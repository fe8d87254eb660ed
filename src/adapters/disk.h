/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk.h - inside of disks: the handles (disk.c), and how a file does a request (disk_file.c), whoever makes the calls:
 * io_uring (disk_uring.c), or the calling thread (disk_plain.c).
 */
#ifndef GM_ADAPTERS_DISK_H
#define GM_ADAPTERS_DISK_H

#include <guestmem/disk.h>
#include <stdbool.h>

struct gm_disk {
	struct gm_disk_ops ops;
	char name[32];
	uint64_t len; /* as of the last look; atomic */
	uint32_t flags;
	uint32_t align;
	uint32_t mem_align;
};

struct gm_disk_channel {
	struct gm_disk *disk;
	void *own;
	bool others; /* a request of somebody else than who steps is done */
};

#define DISK_DEPTH_MAX 4096u
#define DISK_SLICES_MAX 1024u
#define DISK_ZEROS (64u << 10)
#define DISK_ZERO_SLICES 16u

struct disk_file {
	int fd;
	bool is_block;
	bool is_direct;
	uint32_t flags;    /* GM_DISK_NO_URING */
	uint32_t no_punch; /* atomic: it was tried in vain */
	uint32_t no_zero;
	int32_t lost;      /* atomic: why what was written may not be kept; 0 */
	uint32_t by_uring; /* atomic: GM_DISK_BY_URING, or 0 */
	void *zeros;
	struct iovec zero_slices[DISK_ZERO_SLICES];
	struct gm_disk_info info;
};

enum disk_way {
	DISK_MOVE = 0, /* reads and writes */
	DISK_SYNC,
	DISK_PUNCH,
	DISK_ZERO_RANGE,
	DISK_WRITE_ZEROS,
};

/* In gm_disk_req.own. */
struct disk_job {
	uint64_t at; /* bytes that are done */
	enum disk_way way;
	struct gm_disk_req *next;
};
_Static_assert(
	sizeof(struct disk_job) <= sizeof(((struct gm_disk_req *)0)->own), "the disk's part");

static inline struct disk_job *disk_job(struct gm_disk_req *req)
{
	return (struct disk_job *)(void *)req->own;
}

/* What a job does next, as arguments of a system call. */
struct disk_call {
	const struct iovec *slices; /* to be moved, or NULL */
	uint32_t nr;
	bool write;
	bool durable;
	int mode; /* of fallocate */
	uint64_t off;
	uint64_t len;
};

/* disk_file.c */
void gm_disk_begin(struct disk_file *file, struct gm_disk_req *req);
/* @room: one slice, for what has no array. */
void gm_disk_next(
	struct disk_file *file, struct gm_disk_req *req, struct iovec *room, struct disk_call *ret);
/* Of a call's result: 1: another call; 0: all is done; or the error. */
int gm_disk_settle(struct disk_file *file, struct gm_disk_req *req, int64_t res);
/* A sync failed: from now on each flush does. */
void gm_disk_lose(struct disk_file *file, int rc);

/* How requests to a file are carried out. */
struct disk_engine {
	int (*open)(struct disk_file *file, uint32_t depth, void **ret_channel);
	void (*close)(void *channel);
	int (*start)(void *channel, struct gm_disk_req *req);
	int (*step)(void *channel);
	int (*fd)(void *channel);
};

extern const struct disk_engine gm_disk_plain;
extern const struct disk_engine
	gm_disk_uring; /* its open is -ENOTSUP in a build without liburing */

#endif

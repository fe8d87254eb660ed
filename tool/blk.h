/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blk.h - "guestmem blk": one thread for the socket, one for each queue that runs.
 *
 *	message -> back-end -> a queue starts -> its thread: kick -> requests -> disk -> answers -> call
 */
#ifndef TOOL_BLK_H
#define TOOL_BLK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <guestmem/vhost_server.h>
#include <guestmem/virtio_blk_stats.h>

#include "blk_figures.h"

#define BLK_QUEUES_MAX 64

struct blk_opts {
	const char *socket;
	const char *file;
	const char *serial;
	const char *control;
	int fd; /* -1: none */
	uint32_t queues;
	uint32_t queue_size;
	uint32_t block;
	uint32_t poll_us;
	bool read_only;
	bool direct;
	bool plain;
	bool no_discard;
	bool postcopy;
	bool capabilities;
};

/* What a queue's thread is asked to do. */
enum blk_task {
	BLK_GO_ON,
	BLK_LET_GO,  /* of guest memory that was looked up, then go on */
	BLK_STOP,    /* finish what was taken, then end */
	BLK_SUSPEND, /* end; what was taken is noted as in flight */
};

struct blk_queue {
	struct blk *blk;
	uint32_t index;
	bool runs;
	pthread_t thread;
	struct gm_virtio_blk_queue *q;
	int kick; /* -1: none */
	int wake;
	pthread_mutex_t lock;
	pthread_cond_t told;
	enum blk_task task; /* written under the lock */
	int answer;         /* of the last task that has one */
	bool broken;
	uint64_t kicks; /* atomic, counted by the queue's thread, as the next two */
	uint64_t polls;
	uint64_t wrong;
	struct blk_totals past; /* of runs before this one */
};

struct blk {
	struct blk_opts opts;
	struct gm_disk *disk;
	struct gm_virtio_blk *device;
	struct gm_vhost_backend *backend;
	struct gm_vhost_server *server;
	struct blk_queue queues[BLK_QUEUES_MAX];
	int file; /* -1: none */
	int listener;
	bool made_socket; /* and not a service manager */
	int signals;
	int timer;
	struct control *control; /* or NULL */
	struct blk_looks *looks; /* or NULL */
	double begun;
	bool served; /* a queue has run */
	bool ending;
	bool failed;
};

/* ---- blk.c ---- */
/* From the thread of the socket: has a signal come that ends this process? */
bool blk_is_ending(struct blk *b);

/* ---- blk_disk.c ---- */
bool blk_is_export(const char *file);
/* False after a message. */
bool blk_open_disk(struct blk *b);
/* For the queues that run; false after a message. */
bool blk_lock(const struct blk *b);
void blk_unlock(const struct blk *b);

/* ---- blk_queue.c ---- */
bool blk_queue_prepare(struct blk *b, uint32_t index);
void blk_queue_forget(struct blk_queue *q);
int blk_queue_start(struct blk_queue *q, const struct gm_vhost_queue *queue);
void blk_queue_stop(struct blk_queue *q, bool suspend);
void blk_queue_look(struct blk_queue *q);
/* Until no guest memory is in use that was looked up before; 0, or why not. */
int blk_queue_let_go(struct blk_queue *q);

#endif

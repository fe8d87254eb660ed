/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * moved.h - a guest that is moved from a process to another, and what that took.
 *
 * Both processes are children of the bench, made before they have memory or threads. The sockets are there before it
 * begins, the memory at the destination too; so what is measured is the migration. The guest is a thread wherever
 * it runs.
 */
#ifndef GM_BENCH_MOVED_H
#define GM_BENCH_MOVED_H

#include <guestmem/guestmem.h>
#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>

#include <stdatomic.h>

#define MOVED_TOUCHES 4096u
#define MOVED_BINS 4096u
#define MOVED_BIN_NS UINT64_C(10000000)

enum moved_guest {
	MOVED_IDLE,   /* does nothing */
	MOVED_STORE,  /* reads or writes a word of a random page, again and again */
	MOVED_STEADY, /* writes @write_rate bytes of pages a second, one after the other */
	MOVED_TOUCH, /* at the destination only: touches missing pages, @touches of them, @gap_us apart */
};

struct moved_plan {
	bool tcp;
	bool shared;       /* memory that has a file */
	uint64_t memory;   /* bytes */
	uint64_t filled;   /* of these from the first on; the rest never was touched */
	bool there;        /* the destination's memory is filled before */
	bool until_runs;   /* it is over when the guest runs there */
	uint32_t later_at; /* round that ends with post-copy; 0: as @out says */
	enum moved_guest guest;
	uint64_t write_rate;
	uint32_t touches;
	uint32_t gap_us;
	struct gm_migrate_out_opts out;
};

/* In memory that both processes share. */
struct moved {
	_Atomic uint32_t ready;
	_Atomic bool go;
	_Atomic bool stop;
	_Atomic uint32_t failed;
	_Atomic uint64_t last_here;   /* when the guest did something last at the source */
	_Atomic uint64_t first_there; /* and first at the destination */
	_Atomic bool touched;
	uint64_t began; /* when the migration began */
	uint64_t total_ns;
	uint64_t cpu_ns[2];   /* of the source, of the destination, meanwhile */
	uint64_t downtime_ns; /* as the source says */
	uint64_t rounds;
	uint64_t requests;
	uint64_t nr_lat;
	uint64_t lat[MOVED_TOUCHES]; /* ns; sorted at the end */
	_Atomic uint32_t bins[MOVED_BINS];
};

uint64_t moved_now(void);
/* Connected stream sockets. */
void moved_sockets(bool tcp, int ret[2]);
/* A child that calls @fn and ends; what it returns is its status. */
int moved_child(int (*fn)(void *ctx), void *ctx);
/* Until that one ends; ends the program unless that went well. */
void moved_wait(int pid);
/* Memory that children share. */
void *moved_share(size_t len);
int moved_compare(const void *a, const void *b);
/* Of sorted numbers. */
uint64_t moved_part(const uint64_t *sorted, uint64_t nr, uint32_t per_mille);

/* Moves one. @ret is of moved_share(). */
void moved_run(const struct moved_plan *plan, struct moved *ret);

#endif

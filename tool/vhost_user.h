/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_user.h - "guestmem vhost-user": what its files share.
 *
 * Messages pass unchanged; what they say is noted on the way. Nothing that either side sends is believed further than
 * that, and their files are read by pread(2), so that they may shrink.
 */
#ifndef TOOL_VHOST_USER_H
#define TOOL_VHOST_USER_H

#include <guestmem/vhost_msg.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "dirty_log.h"
#include "tool.h"

#define SEEN_RINGS 256u
#define SEEN_REGIONS 512u
#define PASS_MAX 65536u /* bytes of a payload that is passed on */

struct seen_region {
	struct gm_vhost_region region;
	int fd; /* ours, or -1 */
};

struct seen_ring {
	bool told; /* @base is what the device said when it was stopped */
	bool set;
	bool enabled;
	bool kicked;
	bool stopped;
	uint32_t num;
	uint32_t base;
	struct gm_vhost_vring_addr addr;
};

/* A translation of the guest's IOMMU: [@iova, @iova + @len) lies at user address @user. */
struct seen_entry {
	uint64_t iova;
	uint64_t len;
	uint64_t user;
};

/* Those that have passed, in rising order; none overlaps another. */
struct seen_tlb {
	struct seen_entry *list;
	uint32_t nr;
	bool full; /* some were dropped */
};

/* What a front-end has shared with its back-end. */
struct seen {
	uint64_t offered;
	uint64_t features;
	uint64_t protocol;
	uint64_t messages[2]; /* by who sent them, replies included */
	uint64_t unknown;     /* that break the specification */
	struct seen_region regions[SEEN_REGIONS];
	uint32_t nr_regions;
	struct seen_ring rings[SEEN_RINGS];
	int log_fd;
	uint64_t log_off;
	uint64_t log_len;
	struct dirty_log dirty;
	struct seen_tlb tlb;
	bool listening; /* post-copy: a table without regions is no table */
};

/* ---- vhost_seen.c ---- */
void seen_init(struct seen *s);
void seen_free(struct seen *s);
/* Takes note of a whole message. @fds are taken where they become -1. */
void seen_message(struct seen *s, enum gm_vhost_from from, bool reply,
	const struct gm_vhost_msg *msg, int *fds, uint32_t nr);
/* Looks at the log. */
void seen_log(struct seen *s);
/* A ring_read_fn: memory at a user address, or behind the guest's IOMMU at an IOVA. */
const char *seen_read(void *ctx, uint64_t addr, void *buf, size_t len);

/* ---- vhost_tlb.c ---- */
void tlb_update(struct seen_tlb *tlb, const struct gm_vhost_iotlb *msg);
/* How many bytes from @iova on lie together, and where; 0: no translation has passed. */
uint64_t tlb_find(const struct seen_tlb *tlb, uint64_t iova, uint64_t *ret_user);
void tlb_clear(struct seen_tlb *tlb);

/* ---- vhost_show.c ---- */
json_t *show_json(struct seen *s);
/* On standard output. */
void show_report(const json_t *report, bool as_json);
void show_message(enum gm_vhost_from from, bool channel, bool reply, const struct gm_vhost_msg *msg,
	uint32_t nr_fds, bool as_json);

/* ---- vhost_proxy.c ---- */
struct proxy_opts {
	bool trace;
	bool json;
	double interval; /* seconds between reports, 0 = none */
	int signals;     /* signalfd */
};
/* Passes messages until one side goes, or a signal. Takes both sockets. True: a signal has come. */
bool proxy_run(int front, int back, struct seen *seen, const struct proxy_opts *opts);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk.h - the parts of "guestmem walk".
 *
 * walk.c reads the command line; walk_sides.c reads sizes and mixes; walk_live.c looks at a running
 * process; walk_rows.c asks the library for each pair of guest and host; walk_measure.c measures;
 * walk_show.c, walk_json.c and walk_draw.c show. What is computed, what was seen and what was
 * measured is told apart everywhere.
 */
#ifndef TOOL_WALK_H
#define TOOL_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <guestmem/walk.h>

#include "tool.h"

#define WALK_PARTS_MAX 8
#define WALK_SIDES_MAX 4
#define WALK_PAGINGS 3
#define WALK_WEIGHT_MAX 1000

/* ---- walk_sides.c ---- */

struct walk_part {
	uint32_t log2;
	uint64_t weight; /* a share, or bytes that were seen */
	bool transparent;
};

/* Pages of one side: one size, or several by weight. */
struct walk_side {
	char label[96];
	struct walk_part parts[WALK_PARTS_MAX];
	size_t nr;
	bool seen; /* weights are bytes of a process */
};

/* "2M", "thp", "4K:1,2M:3". What is wrong with it, or NULL. */
const char *walk_parse_side(const char *text, bool host, struct walk_side *ret);
/* "4x5" or "5". False if it is not. */
bool walk_parse_levels(const char *text, uint32_t *ret_guest, uint32_t *ret_host);
/* One side for each leaf. */
void walk_all_sides(struct walk_side sides[GM_WALK_LEAVES]);
/* @bytes in the side's proportions; 0: a memory in which they are exact. */
struct gm_walk_mix walk_mix(const struct walk_side *side, uint64_t bytes);

/* ---- walk_tlb.c ---- */

struct walk_regs {
	uint32_t a, b, c, d;
};
typedef struct walk_regs walk_cpuid_fn(void *ctx, uint32_t leaf, uint32_t sub);

/* Entries of the last level that serves loads. */
struct walk_tlb {
	uint32_t entries[GM_WALK_LEAVES];
	uint32_t told; /* bit i: by cpuid or by the user, not assumed */
	char source[192];
};

/* What a CPU says of itself; @cpuid may be NULL: there is none. */
void walk_tlb_read(walk_cpuid_fn *cpuid, void *ctx, struct walk_tlb *ret);
/* "4K:1536,2M:1536,1G:16", over what is there. What is wrong, or NULL. */
const char *walk_parse_tlb(const char *text, struct walk_tlb *tlb);

/* ---- walk_host.c ---- */

struct walk_host {
	char hypervisor[16]; /* that this machine runs on; empty: none is seen */
	char kvm[32];        /* kvm_intel … */
	bool kvm_known;      /* is it known how guests of this machine are walked? */
	uint32_t kvm_paging; /* enum gm_walk_paging */
	bool lean;           /* pools free page structs */
};

void walk_host_read(struct walk_host *ret, struct walk_tlb *tlb);
/* Notes on what this host distorts, at most @max; whoever calls it frees them. */
size_t walk_host_notes(const struct walk_host *host, char **notes, size_t max);

/* ---- walk_live.c ---- */

struct walk_live {
	pid_t pid;
	char name[64];
	const char *found_by;
	uint64_t present;
	uint64_t page_tables; /* UINT64_MAX: not known */
	uint64_t by_log2[41];
	uint32_t unseen;
	uint32_t flags; /* GM_WALK_TRANSPARENT, GM_WALK_LEAN as it is seen */
};

/* False after a message. */
bool walk_live_read(pid_t pid, bool lean, struct walk_live *ret);
void walk_live_side(const struct walk_live *live, struct walk_side *ret);

/* ---- walk_rows.c ---- */

struct walk_row {
	uint32_t guest; /* index in guests */
	uint32_t host;  /* index in hosts */
	struct gm_walk_mean mean[WALK_PAGINGS];
	uint32_t least[WALK_PAGINGS];
	uint64_t reach[WALK_PAGINGS]; /* of the memory; 0 without one */
	struct gm_walk_footprint footprint[WALK_PAGINGS];
};

/* ---- walk_measure.c ---- */

struct walk_series {
	const char *label;
	uint32_t log2;
	char *skipped; /* why, or NULL */
	double share;  /* of its memory that is in such pages; negative: could not be seen */
	double ns;     /* median of a load */
	double ratio;  /* median over rounds of ns to that of the first series */
	double low;    /* a quarter of the ratios is below, a quarter above */
	double high;
	uint32_t loads;      /* computed for one miss, if there is no host below */
	uint64_t reach;      /* of the TLB in this memory */
	uint32_t entry_log2; /* of the TLB, without a host below */
};

#define WALK_SERIES_MAX 6
#define WALK_PAIRS_MAX 4
#define WALK_SHARE_LEAST 0.99

/* Of a guest; series.log2 is the host's size. */
struct walk_pair {
	struct walk_series series;
	uint32_t guest_log2;
	uint32_t nested; /* computed loads */
	uint32_t shadow;
};

struct walk_measured {
	uint64_t size;
	uint64_t rounds;
	struct walk_series series[WALK_SERIES_MAX];
	size_t nr;
	struct walk_series again;  /* the first once more: how much is noise */
	const char *guest_skipped; /* why nothing was measured in a guest, or NULL */
	uint64_t guest_rounds;
	struct walk_pair pairs[WALK_PAIRS_MAX];
	size_t nr_pairs;
};

struct walk;
/* False after a message. */
bool walk_measure(const struct walk *w, uint64_t rounds, struct walk_measured *ret);
/* Which share of the memory is in pages of that size? Negative: that cannot be seen. */
double walk_share_of(const void *base, uint64_t len, uint32_t log2);
/* Medians of @ns, and of its ratios to @first, by round. */
void walk_conclude(struct walk_series *s, const double *ns, const double *first, uint64_t rounds);
void walk_measure_free(struct walk_measured *measured);

/* ---- walk_guest.c ---- */
/* Fills in pairs, or guest_skipped. */
void walk_measure_guests(const struct walk *w, uint64_t rounds, struct walk_measured *m);

/* ---- all of it ---- */

struct walk {
	struct gm_walk_opts opts;
	bool shown[WALK_PAGINGS]; /* by enum gm_walk_paging */
	uint32_t paging;          /* of which memory and picture are */
	struct walk_side guests[WALK_SIDES_MAX];
	size_t nr_guests;
	struct walk_side hosts[WALK_SIDES_MAX];
	size_t nr_hosts;
	struct walk_side tables; /* nr 0: as the data */
	uint64_t size;           /* 0: none given */
	struct walk_tlb tlb;
	struct walk_host host;
	bool has_live;
	struct walk_live live;
	bool has_measured;
	struct walk_measured measured;
	struct walk_row rows[WALK_SIDES_MAX * WALK_SIDES_MAX];
	size_t nr_rows;
};

extern const char *const walk_paging_names[WALK_PAGINGS];

/* False after a message. */
bool walk_compute(struct walk *w);

/* ---- walk_show.c, walk_json.c ---- */
void walk_print(const struct walk *w);
/* False after a message. */
bool walk_json(const struct walk *w, struct tool_output *out);

/* ---- walk_draw.c, or walk_none.c without cairo ---- */
/* False after a message. */
bool walk_draw_available(void);
bool walk_draw(const struct walk *w, struct tool_output *out);

#endif

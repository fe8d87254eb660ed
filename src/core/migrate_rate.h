/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_rate.h - the arithmetic of pre-copy: what was measured in rounds, what is to be expected, and what
 * to do at the end of a round.
 *
 * Integers only, nothing overflows: what is too large is UINT64_MAX. Bytes are bytes of memory, however they
 * were packed. Rates are the middle of the last three rounds, so one odd round moves nothing. No clock: times
 * are told.
 */
#ifndef GM_CORE_MIGRATE_RATE_H
#define GM_CORE_MIGRATE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define GM_MIGRATE_RATE_WINDOW 3u
#define GM_MIGRATE_RATE_ROUNDS_MAX 10000u
#define GM_MIGRATE_RATE_THROTTLE_MAX 99u

enum gm_migrate_rate_action {
	GM_MIGRATE_RATE_ROUND = 1,
	GM_MIGRATE_RATE_HAND_OVER, /* pause, and send the rest */
	GM_MIGRATE_RATE_POSTCOPY,  /* pause, and send the rest afterwards */
	GM_MIGRATE_RATE_CANCEL,
};

struct gm_migrate_rate_policy {
	uint64_t downtime_ns; /* the target, not 0 */
	uint64_t switch_ns;   /* of it: what is needed besides pages, for the state and the way */
	uint64_t time_ns;     /* after which no round begins; 0: any time */
	uint32_t rounds;      /* 1 to GM_MIGRATE_RATE_ROUNDS_MAX */
	/* Per cent of its time that the guest does not run: first, each time more, at most; 0: never. */
	uint32_t throttle_first;
	uint32_t throttle_step;
	uint32_t throttle_max;
	/* When rounds or time are over: anything but another round. */
	enum gm_migrate_rate_action at_limit;
};

/* The last samples; where there are more, the oldest is overwritten. */
struct gm_migrate_rate_samples {
	uint64_t rates[GM_MIGRATE_RATE_WINDOW]; /* bytes in a second */
	uint32_t nr; /* that were; of more than the window no number is kept */
};

struct gm_migrate_rate {
	struct gm_migrate_rate_policy policy;
	struct gm_migrate_rate_samples sent;
	struct gm_migrate_rate_samples dirtied; /* since the guest was throttled last */
	uint64_t elapsed_ns;
	uint32_t rounds;
	uint32_t throttle;
	uint32_t hopeless; /* rounds in a row at whose end it did not converge */
};

/* What a round was. */
struct gm_migrate_rate_round {
	uint64_t ns;
	uint64_t sent;
	uint64_t dirtied; /* meanwhile */
	uint64_t left;    /* at its end, with what was not sent */
};

struct gm_migrate_rate_verdict {
	enum gm_migrate_rate_action action;
	uint32_t throttle;    /* per cent, from now on */
	uint64_t downtime_ns; /* that is to be expected if the guest is paused now, and gets all */
	uint64_t
		end_ns; /* from now until it runs there; UINT64_MAX if that is not to be expected */
};

/* 0, or -EINVAL for a policy that cannot be. */
int gm_migrate_rate_init(struct gm_migrate_rate *rate, const struct gm_migrate_rate_policy *policy);

/* Bytes in a second; 0 if nothing was measured. Of two rounds it is the lower. */
uint64_t gm_migrate_rate_sent(const struct gm_migrate_rate *rate);
uint64_t gm_migrate_rate_dirtied(const struct gm_migrate_rate *rate);

/* If so many bytes were left when the guest is paused. */
uint64_t gm_migrate_rate_downtime(const struct gm_migrate_rate *rate, uint64_t left);
/*
 * Until the guest runs at the destination, by rounds in which both rates stay as they are: UINT64_MAX if the
 * rest does not come within the target before rounds or time are over.
 */
uint64_t gm_migrate_rate_end(const struct gm_migrate_rate *rate, uint64_t left);

/*
 * Takes a round down and says what comes next. It hands over for the target's sake when two rounds were measured, or
 * nothing is left. It throttles when two rounds in a row end without hope, and gives each step as long.
 */
struct gm_migrate_rate_verdict gm_migrate_rate_round(
	struct gm_migrate_rate *rate, const struct gm_migrate_rate_round *round);

#endif

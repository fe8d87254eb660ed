/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store.c - a hash table that is read and written by keys of which few are asked for often (zipf),
 * each entry with a checksum. At the end every entry must be whole, and the versions of all
 * together the number of writes.
 */
#include "payload.h"

#define VALUES 5

struct slot {
	uint64_t key; /* 0: empty */
	uint64_t version;
	uint64_t value[VALUES];
	uint64_t sum;
};

_Static_assert(sizeof(struct slot) == 64, "a line of the cache");

struct table {
	struct slot *slots;
	uint64_t nr;
	uint64_t keys;
};

/* ---- logarithm and power to the base of 2, good to 1e-6: there is no libm ---- */

static double log2_of(double x)
{
	union {
		double d;
		uint64_t u;
	} bits = {.d = x};
	int exponent = (int)(bits.u >> 52 & 0x7ff) - 1023;
	double t;
	double t2;

	bits.u = (bits.u & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
	/* ln((1+t)/(1-t)) = 2 (t + t^3/3 + ...), t at most 1/3 */
	t = (bits.d - 1) / (bits.d + 1);
	t2 = t * t;
	t *= 1 + t2 * (1.0 / 3 + t2 * (1.0 / 5 + t2 * (1.0 / 7 + t2 * (1.0 / 9 + t2 / 11))));
	return exponent + t * 2.8853900817779268;
}

/* Of 0 <= @x < 1000. */
static double exp2_of(double x)
{
	union {
		double d;
		uint64_t u;
	} whole;
	uint64_t n = (uint64_t)x;
	double f = (x - (double)n) * 0.69314718055994531;

	whole.u = (1023 + n) << 52;
	return whole.d *
	       (1 + f * (1 + f * (1.0 / 2 +
					 f * (1.0 / 6 +
						     f * (1.0 / 24 +
								 f * (1.0 / 120 +
									     f * (1.0 / 720 +
											 f / 5040)))))));
}

struct zipf {
	double log_nr;
	double rest;  /* 1 - s */
	double each;  /* 1 / rest */
	double range; /* nr^(1-s) - 1 */
	uint64_t nr;
	bool log_uniform; /* s is 1 */
};

static void zipf_init(struct zipf *z, uint64_t nr, uint64_t hundredths)
{
	z->nr = nr;
	z->log_nr = log2_of((double)nr);
	z->rest = 1 - (double)hundredths / 100;
	z->log_uniform = hundredths == 100;
	z->each = z->log_uniform ? 0 : 1 / z->rest;
	/* Where the exponent is negative: nr^-x = 1 / nr^x. */
	if (z->rest > 0)
		z->range = exp2_of(z->rest * z->log_nr) - 1;
	else
		z->range = 1 / exp2_of(-z->rest * z->log_nr) - 1;
}

/* A rank in [0, nr): the continuous distribution turned round. */
static uint64_t zipf_rank(const struct zipf *z, uint64_t random)
{
	double u = (double)(random >> 11) / 9007199254740992.0;
	double log_rank = z->log_uniform ? u * z->log_nr : log2_of(u * z->range + 1) * z->each;
	uint64_t rank = log_rank > 0 ? (uint64_t)exp2_of(log_rank) - 1 : 0;

	return rank < z->nr ? rank : z->nr - 1;
}

/* ---- the table ---- */

/* Of each word another multiple: what is right in the wrong place is wrong. */
static uint64_t sum_of(const struct slot *slot)
{
	uint64_t sum = slot->key ^ slot->version << 1;

	for (uint32_t i = 0; i < VALUES; i++)
		sum += (slot->value[i] ^ slot->value[i] >> 32) *
		       (UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)2 * i);
	return payload_mix(sum);
}

static void write_slot(struct slot *slot, uint64_t key, uint64_t version)
{
	uint64_t value = payload_mix(key ^ version);

	slot->key = key;
	slot->version = version;
	for (uint32_t i = 0; i < VALUES; i++)
		slot->value[i] = value * (2 * i + 1);
	slot->sum = sum_of(slot);
}

static uint64_t key_of(uint64_t rank)
{
	return payload_mix(rank) | 1;
}

/* The key's slot, or the empty one where it belongs; NULL if there is neither. */
static struct slot *find(const struct table *t, uint64_t key)
{
	uint64_t at = key >> 1 & (t->nr - 1); /* its other bits are mixed as they are */

	for (uint64_t i = 0; i < t->nr; i++) {
		struct slot *slot = &t->slots[(at + i) & (t->nr - 1)];

		if (slot->key == key || slot->key == 0)
			return slot;
	}
	return NULL;
}

/* How many keys are in: all, or fewer if it was stopped. */
static uint64_t load(struct run_params *p, const struct table *t)
{
	uint64_t i;

	for (i = 0; i < t->nr; i++) {
		t->slots[i].key = 0;
		if ((i & 0xffff) == 0 && payload_ends(p))
			return 0;
	}
	for (i = 0; i < t->keys; i++) {
		if ((i & 1023) == 0 && payload_ends(p))
			break;
		/* key_of() may give two ranks one key; it is then written twice. */
		write_slot(find(t, key_of(i)), key_of(i), 0);
	}
	return i;
}

static void one_op(struct run_params *p, const struct table *t, uint64_t rank, bool write)
{
	uint64_t key = key_of(rank);
	struct slot *slot = find(t, key);

	if (!slot || slot->key != key) {
		payload_wrong(p, (uintptr_t)slot, slot ? slot->key : 0, key);
	} else if (write) {
		write_slot(slot, key, slot->version + 1);
		p->figures[1]++;
	} else {
		uint64_t sum = sum_of(slot);

		payload_check(p, (uintptr_t)slot, slot->sum, sum);
		p->checksum += sum;
	}
}

/* False if it is to go on later. */
static bool measure(struct run_params *p, const struct table *t, bool again)
{
	uint64_t random = again ? p->kept[0] : payload_mix(p->seed ^ (uint64_t)p->vcpu << 48);
	uint64_t ops = p->arg[RUN_ARG_COUNT];
	uint64_t begun = payload_ticks();
	bool moves = false;
	struct zipf z;

	zipf_init(&z, t->keys, p->arg[RUN_ARG_SKEW]);
	for (; p->ops < ops; p->ops++) {
		if ((p->ops & 255) == 0) {
			payload_progress(p, p->ops);
			if (payload_stopped(p)) {
				moves = payload_moves(p);
				break;
			}
		}
		random = payload_mix(random);
		one_op(p, t, zipf_rank(&z, random),
			(random & 1023) * 100 < p->arg[RUN_ARG_WRITE] * 1024);
	}
	p->kept[0] = random;
	p->ticks += payload_ticks() - begun;
	return !moves;
}

static void verify(struct run_params *p, const struct table *t)
{
	uint64_t versions = 0;

	for (uint64_t i = 0; i < t->nr; i++) {
		const struct slot *slot = &t->slots[i];

		if (slot->key == 0)
			continue;
		payload_check(p, (uintptr_t)slot, slot->sum, sum_of(slot));
		versions += slot->version;
	}
	p->checksum = versions;
	p->expected = p->figures[1];
	payload_check(p, p->mem, versions, p->expected);
	/* Every key must still be found. */
	for (uint64_t i = 0; i < t->keys; i++) {
		const struct slot *slot = find(t, key_of(i));

		payload_check(p, (uintptr_t)slot, slot ? slot->key : 0, key_of(i));
	}
}

void payload_store(struct run_params *p)
{
	struct table t = {.slots = (struct slot *)(uintptr_t)p->mem, .nr = 1};
	bool again = p->state == RUN_MOVES;
	uint64_t begun = payload_ticks();

	if (p->mem_len < 4 * sizeof(struct slot)) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	while (t.nr * 2 * sizeof(struct slot) <= p->mem_len)
		t.nr *= 2;
	t.keys = p->arg[RUN_ARG_KEYS] ? p->arg[RUN_ARG_KEYS] : t.nr / 2;
	if (t.keys > t.nr / 8 * 7) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	if (!again) {
		if (load(p, &t) < t.keys)
			return;
		p->figures[0] = payload_ticks() - begun;
		p->figures[2] = t.keys;
	}
	payload_state(p, RUN_MEASURES);
	if (!measure(p, &t, again)) {
		payload_state(p, RUN_MOVES);
		return;
	}
	p->bytes = p->ops * sizeof(struct slot);
	payload_state(p, RUN_VERIFIES);
	verify(p, &t);
}

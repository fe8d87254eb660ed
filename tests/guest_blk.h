/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest_blk.h - what the driver in a guest (guest_blk.c) and its monitor (kvm_blk.h) agree on: a page in guest memory
 * for each vCPU, with what the driver is to do, what it has done, and all that it keeps.
 */
#ifndef GM_TESTS_GUEST_BLK_H
#define GM_TESTS_GUEST_BLK_H

#include <stddef.h>
#include <stdint.h>

#define GUEST_BLK_AT 0x100000u /* the program's first byte, which is its entry */
#define GUEST_BLK_DONE 0x99u   /* ports: it has ended; bytes */
#define GUEST_BLK_YIELD 0x9au  /* nothing came back for a while */
#define GUEST_BLK_KICK 0x9bu   /* 2 bytes: the number of the queue */

#define BLK_WAYS 32u        /* requests at once at most, each on sectors of its own */
#define BLK_EACH 8192u      /* bytes of these */
#define BLK_WAY_LEN 0x8000u /* of its buffer, in which pieces lie apart */
#define BLK_PIECES 4u       /* of a buffer at most */
#define BLK_CHAIN 8u        /* descriptors that a way owns in a split ring */
#define BLK_HEAD 64u        /* from one head, or one status, to the next */
#define BLK_SECTOR 512u     /* bytes */

/* guest_blk.flags */
#define BLK_PACKED 0x1u /* a packed ring */
#define BLK_FIXED 0x2u  /* even ways only read, odd ones only write, in one piece */
#define BLK_ERRORS 0x4u /* a way whose request failed ends, which is no defect */

/* guest_blk.what: what was wrong first */
enum blk_wrong {
	BLK_WELL = 0,
	BLK_STRAY,  /* used: no way that is out; @found is its number, @wanted the ring's index */
	BLK_STATUS, /* the device's answer, or what it says it wrote */
	BLK_BYTES,  /* @off of the sectors of @way */
};

/* Requests that are out, or were last. */
struct blk_way {
	uint32_t version; /* of the last write that was sent */
	uint8_t out;
	uint8_t writes;
	uint8_t pieces;
	uint8_t far; /* its buffer is in @extra */
	uint64_t buffer;
	uint16_t at[BLK_PIECES];  /* of the buffer, in units of 8 bytes */
	uint16_t len[BLK_PIECES]; /* the same */
};

/* The monitor writes the first half before the start, @stop and @extra at any time. */
struct guest_blk {
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	uint64_t heads;
	uint64_t status;
	uint64_t buffers;
	uint64_t count; /* requests that end it; 0: @stop does */
	uint64_t seed;
	uint32_t nr; /* entries of the ring */
	uint32_t flags;
	uint32_t ways;
	uint32_t queue;
	uint32_t stop;
	uint32_t pad;
	uint64_t extra; /* other memory for buffers, 0: none, or it is to go */
	/* The driver's half. */
	uint64_t done;
	uint64_t kicks;
	uint64_t yields;
	uint32_t failed; /* a bit for each way that has ended */
	uint32_t pad3;
	uint64_t far; /* requests with a buffer in @extra so far */
	uint32_t far_out;
	uint32_t out;
	uint32_t what;
	uint32_t way;
	uint64_t off;
	uint64_t found;
	uint64_t wanted;
	/* Its ring: of a packed one the places and wrap counters. */
	uint16_t next_avail;
	uint16_t next_used;
	uint8_t avail_wrap;
	uint8_t used_wrap;
	uint8_t pad2[2];
	struct blk_way line[BLK_WAYS];
};

_Static_assert(sizeof(struct guest_blk) <= 4096, "a page");

/* What lies at a byte (a multiple of 8) of a way's sectors; version 0 is what the disk begins with. */
static inline uint64_t blk_word(uint32_t queue, uint32_t way, uint32_t version, uint64_t at)
{
	return (uint64_t)version << 32 | (uint64_t)(queue * BLK_WAYS + way) << 16 | at;
}

static inline uint64_t blk_sector(uint32_t queue, uint32_t way)
{
	return (uint64_t)(queue * BLK_WAYS + way) * (BLK_EACH / BLK_SECTOR);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer_wire.h - the messages by which pages are asked for (docs/page-protocol.md): bytes to structures and back.
 *
 * No I/O and no sums. What is decoded is bounded by itself; whether an answer is one to a request, and a request lies
 * in the memory, its receiver looks at.
 */
#ifndef GM_CORE_PEER_WIRE_H
#define GM_CORE_PEER_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define GM_PEER_VERSION 1u
#define GM_PEER_HELLO 32u
#define GM_PEER_WELCOME 48u
#define GM_PEER_REQUEST 24u
#define GM_PEER_ANSWER 32u
#define GM_PEER_LEN_MAX (4u << 20) /* bytes of memory in an answer */

/* Bits of gm_peer_hello.codecs. */
#define GM_PEER_ZSTD 0x1u
#define GM_PEER_LZ4 0x2u

/* The first four are enum gm_snapfile_kind. */
enum gm_peer_kind {
	GM_PEER_BY_NONE = 1,
	GM_PEER_BY_ZSTD,
	GM_PEER_BY_LZ4,
	GM_PEER_ZERO,
	GM_PEER_ERROR,
};

struct gm_peer_hello {
	uint32_t lowest; /* versions */
	uint32_t highest;
	uint32_t codecs;
};

struct gm_peer_welcome {
	uint32_t version; /* 0: none in common, and nothing else counts */
	uint32_t max;     /* bytes of a request */
	uint64_t len;
	uint8_t identity[16];
};

struct gm_peer_request {
	uint32_t number;
	uint32_t len;
	uint64_t off;
};

struct gm_peer_answer {
	uint32_t number;
	uint32_t kind;
	uint32_t len;
	uint32_t stored; /* bytes that follow */
	uint32_t error;  /* errno value */
	uint64_t sum;    /* XXH3 of the memory */
};

void gm_peer_put_hello(const struct gm_peer_hello *hello, uint8_t *bytes);
void gm_peer_put_welcome(const struct gm_peer_welcome *welcome, uint8_t *bytes);
void gm_peer_put_request(const struct gm_peer_request *request, uint8_t *bytes);
void gm_peer_put_answer(const struct gm_peer_answer *answer, uint8_t *bytes);

/* Each 0 or -EPROTO, with *ret_why a constant text. */
int gm_peer_get_hello(const uint8_t *bytes, struct gm_peer_hello *ret, const char **ret_why);
int gm_peer_get_welcome(const uint8_t *bytes, struct gm_peer_welcome *ret, const char **ret_why);
int gm_peer_get_request(const uint8_t *bytes, struct gm_peer_request *ret, const char **ret_why);
int gm_peer_get_answer(const uint8_t *bytes, struct gm_peer_answer *ret, const char **ret_why);

#endif

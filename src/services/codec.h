/* SPDX-License-Identifier: BSD-3-Clause */
/* codec.h - compressed bytes of one chunk: zstd and lz4, as far as the build found them. */
#ifndef GM_SERVICES_CODEC_H
#define GM_SERVICES_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* @kind: enum gm_snapfile_kind. */
bool gm_codec_has(uint32_t kind);
const char *gm_codec_name(uint32_t kind);
/* What is kept from one chunk to the next: NULL without memory, and where nothing is needed. */
void *gm_codec_encoder(uint32_t kind);
void gm_codec_encoder_free(uint32_t kind, void *encoder);
void *gm_codec_decoder(uint32_t kind);
void gm_codec_decoder_free(uint32_t kind, void *decoder);
/* Bytes that it became, 0 if these were more than @cap. */
size_t gm_codec_pack(uint32_t kind, void *encoder, int level, const void *from, size_t len,
	void *to, size_t cap);
/* False if these are not the bytes of @len others. Safe on any bytes. */
bool gm_codec_unpack(
	uint32_t kind, void *decoder, const void *from, size_t stored, void *to, size_t len);

#endif

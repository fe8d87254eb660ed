/* SPDX-License-Identifier: BSD-3-Clause */
/* codec.c - see codec.h. */
#include "services/codec.h"

#include "core/snapfile.h"

#if GM_ZSTD
#include <zstd.h>
#endif
#if GM_LZ4
#include <lz4.h>
#endif

bool gm_codec_has(uint32_t kind)
{
	return kind == GM_SNAPFILE_RAW || (kind == GM_SNAPFILE_ZSTD && GM_ZSTD) ||
	       (kind == GM_SNAPFILE_LZ4 && GM_LZ4);
}

const char *gm_codec_name(uint32_t kind)
{
	static const char *const names[] = {
		[GM_SNAPFILE_RAW] = "raw", [GM_SNAPFILE_ZSTD] = "zstd", [GM_SNAPFILE_LZ4] = "lz4"};

	return kind >= GM_SNAPFILE_RAW && kind <= GM_SNAPFILE_LZ4 ? names[kind] : "none";
}

void *gm_codec_encoder(uint32_t kind)
{
#if GM_ZSTD
	if (kind == GM_SNAPFILE_ZSTD)
		return ZSTD_createCCtx();
#endif
	(void)kind;
	return NULL;
}

void gm_codec_encoder_free(uint32_t kind, void *encoder)
{
#if GM_ZSTD
	if (kind == GM_SNAPFILE_ZSTD)
		ZSTD_freeCCtx(encoder);
#endif
	(void)kind;
	(void)encoder;
}

void *gm_codec_decoder(uint32_t kind)
{
#if GM_ZSTD
	if (kind == GM_SNAPFILE_ZSTD)
		return ZSTD_createDCtx();
#endif
	(void)kind;
	return NULL;
}

void gm_codec_decoder_free(uint32_t kind, void *decoder)
{
#if GM_ZSTD
	if (kind == GM_SNAPFILE_ZSTD)
		ZSTD_freeDCtx(decoder);
#endif
	(void)kind;
	(void)decoder;
}

size_t gm_codec_pack(
	uint32_t kind, void *encoder, int level, const void *from, size_t len, void *to, size_t cap)
{
#if GM_ZSTD
	if (kind == GM_SNAPFILE_ZSTD && encoder) {
		size_t nr = ZSTD_compressCCtx(encoder, to, cap, from, len, level ? level : 1);

		return ZSTD_isError(nr) ? 0 : nr;
	}
#endif
#if GM_LZ4
	if (kind == GM_SNAPFILE_LZ4) {
		int nr = LZ4_compress_fast(from, to, (int)len, (int)cap, level > 0 ? level : 1);

		return nr > 0 ? (size_t)nr : 0;
	}
#endif
	(void)kind;
	(void)encoder;
	(void)level;
	(void)from;
	(void)len;
	(void)to;
	(void)cap;
	return 0;
}

bool gm_codec_unpack(
	uint32_t kind, void *decoder, const void *from, size_t stored, void *to, size_t len)
{
#if GM_ZSTD
	if (kind == GM_SNAPFILE_ZSTD && decoder)
		return ZSTD_decompressDCtx(decoder, to, len, from, stored) == len;
#endif
#if GM_LZ4
	if (kind == GM_SNAPFILE_LZ4)
		return LZ4_decompress_safe(from, to, (int)stored, (int)len) == (int)len;
#endif
	(void)kind;
	(void)decoder;
	(void)from;
	(void)stored;
	(void)to;
	(void)len;
	return false;
}

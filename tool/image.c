/* SPDX-License-Identifier: BSD-3-Clause */
/* image.c - see image.h. */
#include "image.h"

#include <string.h>
#include <sys/stat.h>

#include <guestmem/nbd.h>

#include "snapshot.h"
#include "tool.h"

bool image_is_uri(const char *path)
{
	static const char *const begins[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"};

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		if (strncmp(path, begins[i], strlen(begins[i])) == 0)
			return true;
	}
	return false;
}

/* Two sums over all that names files (FNV-1a): for accidents, as whoever may open them may change them too. */
static void add(uint64_t sums[2], const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = ((const uint8_t *)bytes)[i];

		sums[0] = (sums[0] ^ byte) * UINT64_C(0x100000001b3);
		sums[1] = (sums[1] ^ (uint8_t)(byte + 1)) * UINT64_C(0x100000001b3);
	}
}

static void name_files(struct image *image, const char *const *paths, size_t nr)
{
	uint64_t sums[2] = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x84222325cbf29ce4)};
	uint64_t len = gm_source_len(image->source);

	for (size_t i = 0; i < nr; i++) {
		struct stat st;

		if (!image->memory || stat(paths[i], &st)) {
			add(sums, paths[i], strlen(paths[i]));
			continue;
		}
		add(sums, &st.st_dev, sizeof(st.st_dev));
		add(sums, &st.st_ino, sizeof(st.st_ino));
		add(sums, &st.st_mtim, sizeof(st.st_mtim));
	}
	add(sums, &len, sizeof(len));
	memcpy(image->id, sums, sizeof(image->id));
}

static bool open_export(struct image *image, const char *uri)
{
	const struct gm_nbd_opts opts = {.size = sizeof(opts), .uri = uri};
	struct gm_error err;

	image->format = "nbd";
	if (gm_source_nbd(&opts, &image->source, &err) == 0)
		return true;
	tool_error("%s: %s", uri, err.text);
	return false;
}

static bool open_files(struct image *image, const char *const *paths, size_t nr, uint32_t format)
{
	struct gm_memfile_opts opts = {.size = sizeof(opts), .format = format};
	struct gm_memfile_info info = {.size = sizeof(info)};
	struct gm_snapshot *const *saved;
	size_t nr_saved;

	/* Its names are not written to. */
	image->memory = memory_open(paths, nr, &opts);
	if (!image->memory)
		return false;
	gm_memfile_info(image->memory, &info);
	image->format = memory_format_name(info.format);
	image->source = gm_memfile_source(image->memory);
	saved = gm_memfile_snapshots(image->memory, &nr_saved);
	image->top = nr_saved ? saved[nr_saved - 1] : NULL;
	memcpy(image->id, info.identity, sizeof(image->id));
	return true;
}

bool image_open(struct image *image, const char *const *paths, size_t nr, uint32_t format)
{
	bool uri = nr == 1 && image_is_uri(paths[0]);

	*image = (struct image){.source = NULL};
	for (size_t i = 0; i < nr && nr > 1; i++) {
		if (image_is_uri(paths[i])) {
			tool_error("%s: an export cannot be laid on others, nor others on it",
				paths[i]);
			return false;
		}
	}
	if (uri ? !open_export(image, paths[0]) : !open_files(image, paths, nr, format))
		return false;
	if (!image->top)
		name_files(image, paths, nr);
	for (size_t i = 0; i < sizeof(image->id); i++)
		snprintf(image->identity + 2 * i, 3, "%02x", image->id[i]);
	return true;
}

void image_close(struct image *image)
{
	if (!image->memory)
		gm_source_destroy(image->source);
	gm_memfile_close(image->memory);
	*image = (struct image){.source = NULL};
}

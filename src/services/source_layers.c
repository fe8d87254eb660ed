/* SPDX-License-Identifier: BSD-3-Clause */
/* source_layers.c - sources on each other: for each offset the topmost that has it. */
#include "services/source.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define LAYERS_MAX 64u

struct layers {
	size_t nr;
	struct gm_source_layer list[];
};

/* Does what lies below show there? */
static bool shows(const struct gm_source_layer *layer, const struct gm_source_extent *extent)
{
	return extent->kind == GM_SOURCE_ABSENT ||
	       (extent->kind == GM_SOURCE_ZERO && (layer->flags & GM_SOURCE_HOLES_SHOW));
}

/* The layer that has the byte at @off, and how far: @len bytes are of interest. */
static int find(const struct layers *layers, uint64_t off, uint64_t len, size_t *ret_layer,
	struct gm_source_extent *ret)
{
	uint64_t limit = UINT64_MAX;

	for (size_t i = layers->nr; i-- > 0;) {
		const struct gm_source_layer *layer = &layers->list[i];
		int rc;

		/* One that is shorter has nothing there; the lowest is as long as all. */
		if (off >= gm_source_len(layer->source))
			continue;
		rc = gm_source_extent_within(layer->source, off, len, ret);
		if (rc)
			return rc;
		limit = ret->len < limit ? ret->len : limit;
		*ret_layer = i;
		if (!shows(layer, ret))
			break;
	}
	ret->len = limit;
	return 0;
}

static int layers_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	size_t layer;

	return find(ctx, offset, extent->len, &layer, extent);
}

static int layers_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	const struct layers *layers = ctx;
	size_t done = 0;
	int rc = 0;

	while (done < len && !rc) {
		struct gm_source_extent extent = {.len = 0};
		uint8_t *to = (uint8_t *)buf + done;
		size_t layer = 0;
		size_t nr;

		rc = find(layers, offset + done, len - done, &layer, &extent);
		if (rc)
			return gm_error_set(err, rc, 0, 0,
				"layers: what lies at 0x%" PRIx64 " is not known: %s",
				offset + done, gm_error_word(rc));
		nr = extent.len < len - done ? extent.len : len - done;
		if (extent.kind == GM_SOURCE_ABSENT)
			rc = gm_error_set(err, -ENODATA, 0, 0,
				"layers: 0x%" PRIx64 " is in none of them", offset + done);
		else if (extent.kind == GM_SOURCE_ZERO)
			memset(to, 0, nr);
		else
			rc = gm_source_read(layers->list[layer].source, offset + done, to, nr, err);
		done += nr;
	}
	return rc;
}

int gm_source_layers(const struct gm_source_layer *list, size_t nr, struct gm_source **ret_source,
	struct gm_error *err)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "layers",
		.extent = layers_extent,
		.read = layers_read,
		.destroy = gm_sys_free,
	};
	struct layers *layers;
	int rc;

	if (nr == 0 || nr > LAYERS_MAX)
		return gm_error_set(err, -EINVAL, 0, 0, "layers: %zu are none, or too many", nr);
	ops.len = gm_source_len(list[0].source);
	for (size_t i = 0; i < nr; i++) {
		if ((list[i].flags & ~GM_SOURCE_HOLES_SHOW) || list[i].reserved)
			return gm_error_set(err, -EINVAL, 0, 0,
				"layers: flags 0x%" PRIx32 " of %zu are not known", list[i].flags,
				i);
		if (gm_source_len(list[i].source) > ops.len)
			return gm_error_set(err, -ERANGE, 0, 0,
				"layers: %zu is longer than the lowest, 0x%" PRIx64 " bytes", i,
				ops.len);
	}
	layers = gm_sys_alloc(sizeof(*layers) + nr * sizeof(layers->list[0]));
	if (!layers)
		return gm_error_set(err, -ENOMEM, 0, 0, "layers: no memory");
	layers->nr = nr;
	memcpy(layers->list, list, nr * sizeof(list[0]));
	/* There is nothing for it to show. */
	layers->list[0].flags = 0;
	ops.ctx = layers;
	rc = gm_source_create(&ops, ret_source, err);
	if (rc)
		gm_sys_free(layers);
	return rc;
}

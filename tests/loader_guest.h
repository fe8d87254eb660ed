/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader_guest.h - what the tests of the loaders share: a guest with memory of several sorts, a kernel
 * image to spoil, and calls that load it.
 */
#ifndef GM_TESTS_LOADER_GUEST_H
#define GM_TESTS_LOADER_GUEST_H

#include <errno.h>
#include <guestmem/loader.h>
#include <string.h>
#include <unistd.h>

#include "images.h"
#include "one_space.h"

#define RAM_LEN MIB(24) /* from 0 on, in two regions */
#define RAM_SPLIT (MIB(1) + KIB(12))
#define ROM MIB(64)
#define MMIO MIB(80)
#define HIGH GIB(4)
#define HIGH_LEN MIB(8)

static struct image_file image;
static struct gm_kernel kernel;
static unsigned int nr_mmio;

static inline int on_mmio_read(void *ctx, uint64_t off, uint32_t size, uint64_t *ret)
{
	(void)ctx;
	(void)off;
	(void)size;
	*ret = 0;
	return 0;
}

static inline int on_mmio_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)value;
	nr_mmio++;
	return 0;
}

/* RAM that promises nothing, so that other programs may have most of the memory. */
static inline uint64_t add_ram(uint64_t gpa, uint64_t len)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space,
		DESC(.gpa = gpa, .backing = BLOCK(.len = len, .reserve = GM_RESERVE_NONE)), &id,
		&err));
	return id;
}

static inline int guest_start(void **state)
{
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GIB(8)};

	(void)state;
	start(&opts);
	add_ram(0, RAM_SPLIT);
	add_ram(RAM_SPLIT, RAM_LEN - RAM_SPLIT);
	add_ram(HIGH, HIGH_LEN);
	assert_ok(gm_space_add(space,
		DESC(.gpa = ROM, .kind = GM_REGION_ROM,
			.backing = BLOCK(.len = MIB(4), .reserve = GM_RESERVE_NONE)),
		NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MMIO, .len = MIB(4), .kind = GM_REGION_MMIO,
			.device = GM_OPTS(
				gm_device_ops, .read = on_mmio_read, .write = on_mmio_write)),
		NULL, &err));
	nr_mmio = 0;
	return 0;
}

static inline int guest_stop(void **state)
{
	(void)state;
	stop();
	return 0;
}

/* Loads @image as it is now. */
static inline int load(const struct gm_load_opts *opts)
{
	int fd = image_fd(&image);
	int rc;

	memset(&err, 0, sizeof(err));
	memset(&kernel, 0xa5, sizeof(kernel));
	kernel.size = sizeof(kernel);
	rc = gm_load_kernel(reader, fd, opts, &kernel, &err);
	close(fd);
	return rc;
}

static inline int probe(void)
{
	int fd = image_fd(&image);
	int rc;

	memset(&err, 0, sizeof(err));
	memset(&kernel, 0xa5, sizeof(kernel));
	kernel.size = sizeof(kernel);
	rc = gm_kernel_probe(fd, &kernel, &err);
	close(fd);
	return rc;
}

/* Are @len bytes of the guest those of the image from @off on? */
static inline void assert_loaded(uint64_t gpa, size_t off, size_t len)
{
	const struct gm_view *view = gm_reader_enter(reader);
	int order = 1;

	assert_int_equal(gm_compare(view, gpa, image.bytes + off, len, &order, NULL), 0);
	gm_reader_leave(reader);
	assert_int_equal(order, 0);
}

static inline void assert_zero(uint64_t gpa, size_t len)
{
	const struct gm_view *view = gm_reader_enter(reader);

	assert_int_equal(gm_is_zero(view, gpa, len, NULL), 1);
	gm_reader_leave(reader);
}

static inline void fill(uint64_t gpa, uint8_t byte, size_t len)
{
	const struct gm_view *view = gm_reader_enter(reader);

	assert_int_equal(gm_fill(view, gpa, byte, len, NULL), 0);
	gm_reader_leave(reader);
}

/* A field with another value, and what is said of it. @code 0: it is good. */
struct spoilt {
	size_t off;
	unsigned int width;
	uint64_t value;
	int code;
	const char *word;
};

/* Loads @image with one field after the other changed; @untouched stays zero where it is refused. */
static inline void try_all(const struct spoilt *list, size_t nr, uint64_t untouched)
{
	for (size_t i = 0; i < nr; i++) {
		const struct spoilt *s = &list[i];
		uint64_t good = image_get(&image, s->off, s->width);
		int rc;

		image_put(&image, s->off, s->width, s->value);
		rc = load(NULL);
		if (rc != -s->code || (rc && (err.code != rc || !strstr(err.text, s->word))))
			fail_msg("%zu: byte 0x%zx = 0x%llx: %d, \"%s\", expected %d with \"%s\"", i,
				s->off, (unsigned long long)s->value, rc, err.text, -s->code,
				s->word);
		if (rc) {
			assert_zero(untouched, KIB(64));
			assert_int_equal(kernel.format, 0xa5a5a5a5);
		}
		fill(untouched, 0, KIB(64));
		image_put(&image, s->off, s->width, good);
	}
	assert_ok(load(NULL));
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* wset_file.c - recorded working sets as files: docs/workingset-format.md. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/sort.h"
#include "services/checksum.h"
#include "services/newfile.h"
#include "services/wset.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define LEN_MAX (UINT64_C(1) << 30) /* what a file may cost who reads it */

static int refuse(struct gm_error *err, int rc, const char *why)
{
	return gm_error_set(err, rc, 0, 0, "working set: %s", why);
}

int gm_wset_save(const struct gm_wset *set, const char *path, struct gm_error *err)
{
	struct gm_newfile file;
	uint8_t *bytes;
	size_t ordered;
	uint64_t len = gm_wset_measure(&set->body, &ordered);
	uint64_t sum;
	int rc;

	if (len > LEN_MAX)
		return refuse(err, -EFBIG, "its file would be longer than 1 GiB");
	bytes = gm_sys_alloc(len);
	if (!bytes)
		return refuse(err, -ENOMEM, "out of memory");
	gm_wset_encode(&set->body, ordered, bytes, len);
	if (!gm_checksum_bytes(bytes, len - GM_WSET_SUM, &sum)) {
		gm_sys_free(bytes);
		return refuse(err, -ENOTSUP, "the library was built without xxHash");
	}
	gm_put_le(bytes + len - GM_WSET_SUM, GM_WSET_SUM, sum);
	rc = gm_newfile_begin(&file, path, err);
	if (!rc) {
		rc = gm_newfile_write(&file, bytes, len, 0, err);
		if (rc)
			gm_newfile_drop(&file);
		else
			rc = gm_newfile_publish(&file, err);
	}
	gm_sys_free(bytes);
	return rc;
}

/* ---- reading ---- */

static int check_order(const struct gm_wset *set, struct gm_error *err)
{
	size_t nr = set->body.nr_order;
	uint32_t *copy = gm_sys_alloc_array(nr + 1, sizeof(*copy));
	bool distinct;

	if (!copy)
		return refuse(err, -ENOMEM, "out of memory");
	memcpy(copy, set->order, nr * sizeof(*copy));
	gm_sort_u32(copy, nr);
	distinct = gm_wset_is_distinct(copy, nr);
	gm_sys_free(copy);
	return distinct ? 0 : refuse(err, -EPROTO, "a page is twice in the order");
}

static int decode(const uint8_t *bytes, uint64_t len, const uint8_t *identity,
	struct gm_wset **ret_set, struct gm_error *err)
{
	struct gm_wset_body head;
	struct gm_wset *set;
	const char *why = NULL;
	int rc = gm_wset_get_head(bytes, len, &head, &why);

	if (rc)
		return refuse(err, rc, why);
	if (identity && memcmp(identity, head.identity, sizeof(head.identity)) != 0)
		return refuse(err, -ESTALE, "it is of another image");
	set = gm_wset_alloc(head.nr_stretches, head.nr_order);
	if (!set)
		return refuse(err, -ENOMEM, "out of memory");
	rc = gm_wset_get_body(bytes, len, &head, set->stretches, set->order, &why);
	if (rc) {
		gm_wset_destroy(set);
		return refuse(err, rc, why);
	}
	set->body = head;
	gm_wset_finish(set, head.nr_stretches, head.nr_order);
	rc = check_order(set, err);
	if (rc)
		gm_wset_destroy(set);
	else
		*ret_set = set;
	return rc;
}

static int check_sum(const uint8_t *bytes, uint64_t len, struct gm_error *err)
{
	uint64_t sum;

	if (!gm_checksum_bytes(bytes, len - GM_WSET_SUM, &sum))
		return refuse(err, -ENOTSUP, "the library was built without xxHash");
	return sum == gm_get_le(bytes + len - GM_WSET_SUM, GM_WSET_SUM)
		       ? 0
		       : refuse(err, -EBADMSG, "its sum is wrong");
}

static int read_bytes(int fd, uint8_t *bytes, size_t len, struct gm_error *err)
{
	size_t done;
	int rc = gm_pread_whole(fd, bytes, len, 0, &done);

	return rc ? refuse(err, rc, rc == -ENODATA ? "it has become shorter" : gm_error_word(rc))
		  : 0;
}

/* Is it one, of this version, and of a length that can be? Before all of it is read. */
static int look(int fd, uint64_t *ret_len, struct gm_error *err)
{
	uint8_t bytes[GM_WSET_HEAD];
	const char *why = NULL;
	uint32_t version;
	struct stat st;
	int rc = gm_sys_fstat(fd, &st);

	if (rc)
		return refuse(err, rc, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return refuse(err, -EPROTO, "it is no regular file");
	if (st.st_size < (off_t)(GM_WSET_HEAD + GM_WSET_SUM) || st.st_size > (off_t)LEN_MAX)
		return refuse(err, -EPROTO, "no file of a recorded working set is so long");
	*ret_len = (uint64_t)st.st_size;
	rc = read_bytes(fd, bytes, sizeof(bytes), err);
	if (rc)
		return rc;
	rc = gm_wset_look(bytes, *ret_len, &version, &why);
	if (rc == -ENOTSUP)
		return gm_error_set(err, rc, 0, 0,
			"working set: version %" PRIu32 ", and this library reads version %u",
			version, GM_WSET_VERSION);
	return rc ? refuse(err, rc, why) : 0;
}

int gm_wset_load(int fd, const uint8_t *identity, struct gm_wset **ret_set, struct gm_error *err)
{
	uint8_t *bytes;
	uint64_t len = 0;
	int rc = look(fd, &len, err);

	if (rc)
		return rc;
	bytes = gm_sys_alloc(len);
	if (!bytes)
		return refuse(err, -ENOMEM, "out of memory");
	rc = read_bytes(fd, bytes, len, err);
	if (!rc)
		rc = check_sum(bytes, len, err);
	if (!rc)
		rc = decode(bytes, len, identity, ret_set, err);
	gm_sys_free(bytes);
	return rc;
}

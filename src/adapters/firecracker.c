/* SPDX-License-Identifier: BSD-3-Clause */
/* firecracker.c - the monitor's one message: read, checked, sorted. */
#include <guestmem/firecracker.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/fds.h"
#include "sys/sys.h"

#define RECEIVES_MAX 64u /* of one message, which comes in one piece unless somebody means ill */
#define PAGE_MIN UINT64_C(4096)
#define PAGE_MAX (UINT64_C(1) << 30)

/* ---- text ---- */

static int refuse(struct gm_error *err, size_t index, const char *why)
{
	return gm_error_set(err, -EPROTO, 0, 0, "firecracker: mapping %zu: %s", index, why);
}

/* A member that is a number; *ret is left alone if there is none. */
static int number(const json_t *object, const char *name, size_t index, bool needed, uint64_t *ret,
	struct gm_error *err)
{
	const json_t *value = json_object_get(object, name);
	char why[64];

	if (!value && !needed)
		return 0;
	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*ret = (uint64_t)json_integer_value(value);
		return 0;
	}
	snprintf(why, sizeof(why), "\"%s\" is %s", name, value ? "no number of bytes" : "missing");
	return refuse(err, index, why);
}

static int page_size(
	const json_t *object, size_t index, struct gm_firecracker_mapping *m, struct gm_error *err)
{
	uint64_t old = 0;
	uint64_t now = 0;
	int rc = number(object, "page_size_kib", index, false, &old, err);

	if (!rc)
		rc = number(object, "page_size", index, false, &now, err);
	if (rc)
		return rc;
	if (old && now && old != now)
		return refuse(err, index, "\"page_size\" and \"page_size_kib\" differ");
	m->page_size = now ? now : old ? old : PAGE_MIN;
	if (!gm_is_pow2(m->page_size) || m->page_size < PAGE_MIN || m->page_size > PAGE_MAX)
		return refuse(err, index, "the page size is none");
	return 0;
}

static int mapping(
	const json_t *object, size_t index, struct gm_firecracker_mapping *m, struct gm_error *err)
{
	struct gm_range range;
	int rc;

	if (!json_is_object(object))
		return refuse(err, index, "is no object");
	rc = number(object, "base_host_virt_addr", index, true, &m->hva, err);
	if (!rc)
		rc = number(object, "size", index, true, &m->len, err);
	if (!rc)
		rc = number(object, "offset", index, true, &m->offset, err);
	if (!rc)
		rc = page_size(object, index, m, err);
	if (rc)
		return rc;
	if (!gm_range_make(m->hva, m->len, &range) || !gm_range_make(m->offset, m->len, &range))
		return refuse(err, index, "is empty, or passes the end of addresses");
	if (!gm_is_aligned(m->hva, m->page_size) || !gm_is_aligned(m->len, m->page_size))
		return refuse(err, index, "does not lie on borders of its pages");
	return 0;
}

/* Few, and most often in order: the last goes down to its place. */
static void put_in_order(struct gm_firecracker_mapping *list, size_t last)
{
	struct gm_firecracker_mapping m = list[last];

	for (; last > 0 && list[last - 1].hva > m.hva; last--)
		list[last] = list[last - 1];
	list[last] = m;
}

static int check_overlaps(
	const struct gm_firecracker_mapping *list, size_t nr, struct gm_error *err)
{
	for (size_t i = 1; i < nr; i++) {
		if (list[i].hva - list[i - 1].hva < list[i - 1].len)
			return gm_error_set(err, -EPROTO, 0, 0,
				"firecracker: the mappings at 0x%" PRIx64 " and 0x%" PRIx64
				" overlap",
				list[i - 1].hva, list[i].hva);
	}
	return 0;
}

static int mappings(const json_t *array, struct gm_firecracker_mapping *ret, size_t max,
	size_t *ret_nr, struct gm_error *err)
{
	size_t nr = json_array_size(array);
	int rc;

	if (nr == 0)
		return gm_error_set(
			err, -EPROTO, 0, 0, "firecracker: the message is no array of mappings");
	if (nr > max)
		return gm_error_set(err, -EMSGSIZE, 0, 0,
			"firecracker: %zu mappings, there is room for %zu", nr, max);
	for (size_t i = 0; i < nr; i++) {
		rc = mapping(json_array_get(array, i), i, &ret[i], err);
		if (rc)
			return rc;
		put_in_order(ret, i);
	}
	rc = check_overlaps(ret, nr, err);
	if (!rc)
		*ret_nr = nr;
	return rc;
}

/* As gm_firecracker_decode(), and -EAGAIN if text is missing at the end. */
static int decode(const char *text, size_t len, struct gm_firecracker_mapping *ret, size_t max,
	size_t *ret_nr, struct gm_error *err)
{
	json_error_t why;
	json_t *array = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	int rc;

	if (!array) {
		rc = json_error_code(&why) == json_error_premature_end_of_input ? -EAGAIN : -EPROTO;
		if (json_error_code(&why) == json_error_out_of_memory)
			rc = -ENOMEM;
		return gm_error_set(err, rc, 0, 0,
			"firecracker: the message is not as it should be at byte %d: %s",
			why.position, why.text);
	}
	rc = mappings(array, ret, max, ret_nr, err);
	json_decref(array);
	return rc;
}

int gm_firecracker_decode(const char *text, size_t len, struct gm_firecracker_mapping *ret,
	size_t max, size_t *ret_nr, struct gm_error *err)
{
	int rc;

	if (len > GM_FIRECRACKER_TEXT_MAX)
		return gm_error_set(err, -EMSGSIZE, 0, 0,
			"firecracker: a message of %zu bytes, at most %u are taken", len,
			GM_FIRECRACKER_TEXT_MAX);
	rc = decode(text, len, ret, max, ret_nr, err);
	if (rc == -EAGAIN)
		rc = gm_error_set(err, -EPROTO, 0, 0,
			"firecracker: the message ends too early, after %zu bytes", len);
	return rc;
}

/* ---- socket ---- */

struct message {
	size_t len;
	struct gm_fds fds;
	char text[GM_FIRECRACKER_TEXT_MAX];
};

static int receive(struct message *m, int sock, int flags, struct gm_error *err)
{
	uint32_t wrong;
	ssize_t nr;

	do {
		nr = gm_fds_recv(sock, m->text + m->len, sizeof(m->text) - m->len,
			m->len ? NULL : &m->fds, flags, &wrong);
	} while (nr == -EINTR);
	if (nr == 0 || nr == -ECONNRESET)
		return gm_error_set(err, -EPIPE, 0, 0,
			"firecracker: the connection was closed after %zu bytes", m->len);
	if (nr < 0)
		return gm_error_set(err, (int)nr, 0, 0,
			"firecracker: nothing can be received after %zu bytes: %s", m->len,
			nr != -EAGAIN      ? gm_error_word((int)nr)
			: flags & MSG_PEEK ? "it is not whole yet"
					   : "the deadline has passed (SO_RCVTIMEO)");
	if (wrong)
		return gm_error_set(err, -EPROTO, 0, 0,
			"firecracker: descriptors at byte %zu, where none is expected, or more "
			"than this process can have (RLIMIT_NOFILE)",
			m->len);
	m->len += (size_t)nr;
	return 0;
}

static int check_uffd(const struct message *m, struct gm_error *err)
{
	char path[40];
	char name[40];

	if (m->fds.nr != 1)
		return gm_error_set(err, -EPROTO, 0, 0,
			"firecracker: %u descriptors came with the first byte, not 1", m->fds.nr);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fds.fd[0]);
	/* Without /proc it is found out when it is used. */
	if (gm_sys_readlink(path, name, sizeof(name)) > 0 &&
		strcmp(name, "anon_inode:[userfaultfd]") != 0)
		return gm_error_set(err, -EPROTO, 0, 0,
			"firecracker: the descriptor that came is no userfaultfd but %s", name);
	return 0;
}

static int receive_all(struct message *m, int sock, int flags, struct gm_firecracker_mapping *ret,
	size_t max, size_t *ret_nr, struct gm_error *err)
{
	struct gm_error why;
	int rc = -EAGAIN;

	for (unsigned int i = 0; rc == -EAGAIN && i < RECEIVES_MAX; i++) {
		if (m->len == sizeof(m->text))
			return gm_error_set(err, -EMSGSIZE, 0, 0,
				"firecracker: a message of more than %u bytes",
				GM_FIRECRACKER_TEXT_MAX);
		rc = receive(m, sock, flags, err);
		if (!rc && i == 0)
			rc = check_uffd(m, err);
		if (rc)
			return rc;
		rc = decode(m->text, m->len, ret, max, ret_nr, &why);
	}
	if (rc && err)
		*err = why;
	if (rc == -EAGAIN)
		rc = gm_error_set(err, -EPROTO, 0, 0, "firecracker: no whole message in %u pieces",
			RECEIVES_MAX);
	return rc;
}

static int take(int sock, int flags, struct gm_firecracker_mapping *ret, size_t max, size_t *ret_nr,
	int *ret_uffd, struct gm_error *err)
{
	struct message *m = gm_sys_alloc(sizeof(*m));
	int rc;

	if (!m)
		return gm_error_set(err, -ENOMEM, 0, 0, "firecracker: out of memory");
	rc = receive_all(m, sock, flags, ret, max, ret_nr, err);
	if (rc)
		gm_fds_close(&m->fds);
	else
		*ret_uffd = m->fds.fd[0];
	gm_sys_free(m);
	return rc;
}

int gm_firecracker_recv(int sock, struct gm_firecracker_mapping *ret, size_t max, size_t *ret_nr,
	int *ret_uffd, struct gm_error *err)
{
	return take(sock, 0, ret, max, ret_nr, ret_uffd, err);
}

int gm_firecracker_look(int sock, struct gm_firecracker_mapping *ret, size_t max, size_t *ret_nr,
	int *ret_uffd, struct gm_error *err)
{
	int rc = gm_sys_peek_from_start(sock);

	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"firecracker: what comes from fd %d cannot be looked at: %s", sock,
			gm_error_word(rc));
	return take(sock, MSG_PEEK | MSG_DONTWAIT, ret, max, ret_nr, ret_uffd, err);
}

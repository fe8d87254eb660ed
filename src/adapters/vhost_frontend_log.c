/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_frontend_log.c - the dirty log that a back-end of vhost-user writes, and where its marks go.
 *
 * A log is a sealed memfd, so that the back-end cannot take its pages away. Nothing says whether one that was replaced
 * is still written to, so some are kept and looked at until the log ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <guestmem/log.h>
#include <string.h>
#include <sys/mman.h>

#include "adapters/vhost_frontend.h"
#include "core/bytes.h"
#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define PAGE 4096u
#define GROUP 64u /* words that are marked at once */

/* ---- memory ---- */

static void log_free(struct gm_vhost_fe_log *log)
{
	if (log->words)
		gm_sys_munmap(log->words, log->len);
	if (log->fd >= 0)
		gm_sys_close(log->fd);
	*log = (struct gm_vhost_fe_log){.fd = -1};
}

static int log_make(struct gm_vhost_frontend *fe, uint64_t len, struct gm_vhost_fe_log *ret,
	struct gm_error *err)
{
	struct gm_vhost_fe_log log = {.len = len, .fd = -1};
	void *at = NULL;
	int rc = gm_sys_memfd("guestmem-log", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (rc >= 0) {
		log.fd = rc;
		do
			rc = gm_sys_ftruncate(log.fd, len);
		while (rc == -EINTR);
	}
	if (rc >= 0)
		rc = gm_sys_add_seals(log.fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (rc >= 0)
		rc = gm_sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			log.fd, 0, &at);
	if (rc < 0) {
		if (log.fd >= 0)
			gm_sys_close(log.fd);
		return gm_error_set(err, rc, 0, 0, "%s: a log of %llu bytes: %s", fe->name,
			(unsigned long long)len, gm_error_word(rc));
	}
	log.words = at;
	*ret = log;
	return 0;
}

/* ---- marks ---- */

static uint64_t mark(struct gm_vhost_frontend *fe, const uint64_t *words, uint64_t first)
{
	const struct gm_view *view;
	uint64_t pages = 0;

	for (size_t i = 0; i < GROUP; i++)
		pages += (uint64_t)__builtin_popcountll(words[i]);
	if (!pages)
		return 0;
	view = gm_reader_enter(fe->reader);
	gm_view_merge(view, first * 64 * PAGE, PAGE, UINT64_C(64) * GROUP, words);
	gm_reader_leave(fe->reader);
	return pages;
}

/* Pages of log are whole groups. */
static uint64_t harvest(struct gm_vhost_frontend *fe, struct gm_vhost_fe_log *log)
{
	uint64_t pages = 0;

	for (uint64_t at = 0; log->words && at < log->len / 8; at += GROUP) {
		uint64_t words[GROUP];

		for (size_t i = 0; i < GROUP; i++) {
			uint64_t *word = &log->words[at + i];
			uint64_t bits = __atomic_load_n(word, __ATOMIC_RELAXED);

			if (bits)
				bits = __atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL);
			words[i] = bits ? gm_get_le((const uint8_t *)&bits, 8) : 0;
		}
		pages += mark(fe, words, at);
	}
	return pages;
}

static uint64_t harvest_all(struct gm_vhost_frontend *fe)
{
	uint64_t pages = harvest(fe, &fe->log);

	for (size_t i = 0; i < GM_VHOST_FE_LOGS; i++)
		pages += harvest(fe, &fe->old_logs[i]);
	return pages;
}

/* ---- messages ---- */

int gm_vhost_fe_features(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	return gm_vhost_fe_set(fe, GM_VHOST_SET_FEATURES,
		fe->features | (fe->log_on ? GM_VHOST_F_LOG_ALL : 0), err);
}

/* What is in the answer means nothing: back-ends send various things. */
static int set_base(
	struct gm_vhost_frontend *fe, const struct gm_vhost_fe_log *log, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_SET_LOG_BASE, .len = sizeof(struct gm_vhost_log)},
		.fds = &log->fd,
		.nr_fds = 1,
	};

	call.msg.u.log = (struct gm_vhost_log){.len = log->len};
	return gm_vhost_fe_call(fe, &call, err);
}

int gm_vhost_fe_log_tell(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	int rc = set_base(fe, &fe->log, err);

	return rc ? rc : gm_vhost_fe_features(fe, err);
}

static void keep_old(struct gm_vhost_frontend *fe, const struct gm_vhost_fe_log *log)
{
	struct gm_vhost_fe_log *oldest = &fe->old_logs[GM_VHOST_FE_LOGS - 1];

	if (oldest->words) {
		harvest(fe, oldest);
		log_free(oldest);
	}
	memmove(fe->old_logs + 1, fe->old_logs, (GM_VHOST_FE_LOGS - 1) * sizeof(*log));
	fe->old_logs[0] = *log;
}

int gm_vhost_fe_log_resize(struct gm_vhost_frontend *fe, uint64_t len, struct gm_error *err)
{
	struct gm_vhost_fe_log log;
	int rc = log_make(fe, len, &log, err);

	if (rc < 0)
		return rc;
	rc = set_base(fe, &log, err);
	if (rc < 0) {
		log_free(&log);
		return rc;
	}
	keep_old(fe, &fe->log);
	fe->log = log;
	return 0;
}

void gm_vhost_fe_log_free(struct gm_vhost_frontend *fe)
{
	log_free(&fe->log);
	for (size_t i = 0; i < GM_VHOST_FE_LOGS; i++) {
		if (fe->old_logs[i].words)
			log_free(&fe->old_logs[i]);
	}
}

/* ---- calls ---- */

static int start(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_table table = {fe->now.slots, fe->now.nr};
	uint64_t len = gm_vhost_plan_log_len(table);
	int rc;

	if (!fe->space)
		return gm_error_set(err, -EINVAL, 0, 0, "%s: there is no memory to log", fe->name);
	if (fe->log_on)
		return gm_error_set(err, -EALREADY, 0, 0, "%s: there is a log", fe->name);
	if (!gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_LOG_SHMFD) ||
		!(fe->offered & GM_VHOST_F_LOG_ALL))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: the back-end cannot log (LOG_SHMFD, F_LOG_ALL)", fe->name);
	rc = log_make(fe, len ? len : PAGE, &fe->log, err);
	if (rc < 0)
		return rc;
	fe->log_on = true;
	rc = gm_vhost_fe_log_tell(fe, err);
	if (!rc)
		rc = gm_vhost_fe_rings_log(fe, err);
	if (rc < 0) {
		fe->log_on = false;
		/* What it took of it is taken back, or its connection ends. */
		if (fe->sock >= 0 && gm_vhost_fe_features(fe, NULL) < 0)
			gm_vhost_fe_lose(fe, rc, "", NULL);
		gm_vhost_fe_log_free(fe);
	}
	return rc;
}

int gm_vhost_frontend_log_start(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = start(fe, err);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

static int no_log(const struct gm_vhost_frontend *fe, struct gm_error *err)
{
	return gm_error_set(err, -EINVAL, 0, 0, "%s: there is no log", fe->name);
}

int gm_vhost_frontend_log_sync(
	struct gm_vhost_frontend *fe, uint64_t *ret_pages, struct gm_error *err)
{
	struct gm_inside inside;
	uint64_t pages = 0;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	if (fe->log_on)
		pages = harvest_all(fe);
	else
		rc = no_log(fe, err);
	if (ret_pages)
		*ret_pages = pages;
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_frontend_log_stop(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	if (!fe->log_on)
		return gm_vhost_fe_leave(fe, &inside, no_log(fe, err), err);
	fe->log_on = false;
	if (fe->sock >= 0)
		rc = gm_vhost_fe_features(fe, err);
	if (!rc && fe->sock >= 0)
		rc = gm_vhost_fe_rings_log(fe, err);
	harvest_all(fe);
	gm_vhost_fe_log_free(fe);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

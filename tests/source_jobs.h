/* SPDX-License-Identifier: BSD-3-Clause */
/* source_jobs.h - up to NR reads at once of "source", which whoever includes this has defined. */
#ifndef GM_TESTS_SOURCE_JOBS_H
#define GM_TESTS_SOURCE_JOBS_H

#include <stdlib.h>
#include <string.h>

#include "support.h"

static struct job {
	struct gm_source_read read;
	uint8_t *buf;
	int rc;
	bool busy;
} jobs[NR];

static unsigned int finished;

static void on_done(struct gm_source_read *read, int rc)
{
	struct job *job = read->ctx;

	assert_true(job->busy);
	job->busy = false;
	job->rc = rc;
	finished++;
}

static int ask(struct job *job, uint64_t offset, uint64_t len)
{
	int rc;

	job->buf = malloc(len);
	memset(job->buf, 0xee, len);
	job->read = (struct gm_source_read){
		.offset = offset, .len = len, .buf = job->buf, .done = on_done, .ctx = job};
	job->busy = true;
	rc = gm_source_start(source, &job->read);
	if (rc) {
		job->busy = false;
		free(job->buf);
	}
	return rc;
}

#endif

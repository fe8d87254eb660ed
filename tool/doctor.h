/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor.h - the parts of "guestmem doctor". */
#ifndef TOOL_DOCTOR_H
#define TOOL_DOCTOR_H

#include <guestmem/host.h>

#include "json.h"
#include "tool.h"

enum doctor_state {
	DOCTOR_OK,
	DOCTOR_OFF,     /* it is there, and could be switched on or made larger */
	DOCTOR_MISSING, /* the kernel or the machine does not have it, or this user may not have it
			 */
	DOCTOR_BROKEN,  /* one of the basics: nothing works without it */
};

struct doctor_check {
	const char *name;
	enum doctor_state state;
	char *text;
	char *mend; /* a command, or NULL */
};

struct doctor {
	struct gm_host host;
	struct doctor_check *checks;
	size_t nr;
};

/* Takes @text and @mend. */
void doctor_add(
	struct doctor *d, const char *name, enum doctor_state state, char *text, char *mend);

/* doctor_checks.c */
void doctor_examine(struct doctor *d);

/* doctor_json.c: all that was found out about the host. */
json_t *doctor_host_json(const struct gm_host *host);

#endif

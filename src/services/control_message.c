/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_message.c - requests in guest memory: read once, checked in the copy, answered.
 *
 * Readers are kept for the next message, as messages come from threads of vCPUs that the library does not
 * know.
 */
#include <guestmem/control_message.h>

#include <endian.h>
#include <errno.h>
#include <string.h>

#include <guestmem/access.h>

#include "services/control.h"

struct wire_request {
	uint64_t code;
	uint64_t addr;
	uint64_t len;
	uint64_t arg;
};

struct wire_response {
	uint32_t code; /* positive errno */
	uint32_t refused;
	uint64_t value;
	uint64_t arg0;
	uint64_t arg1;
};

_Static_assert(sizeof(struct wire_request) == GM_CONTROL_MESSAGE_LEN, "as the proposal says");
_Static_assert(sizeof(struct wire_response) == GM_CONTROL_MESSAGE_LEN, "as the proposal says");

static int take_reader(struct gm_control *c, struct gm_reader **ret)
{
	*ret = NULL;
	pthread_mutex_lock(&c->meter);
	if (c->nr_readers)
		*ret = c->readers[--c->nr_readers];
	pthread_mutex_unlock(&c->meter);
	return *ret ? 0 : gm_reader_create(c->space, "control", ret, NULL);
}

static void give_reader(struct gm_control *c, struct gm_reader *reader)
{
	pthread_mutex_lock(&c->meter);
	if (c->nr_readers < GM_CONTROL_READERS_MAX) {
		c->readers[c->nr_readers++] = reader;
		reader = NULL;
	}
	pthread_mutex_unlock(&c->meter);
	gm_reader_destroy(reader);
}

static int fetch(struct gm_reader *reader, uint64_t gpa, void *to, size_t len)
{
	int rc = gm_read(gm_reader_enter(reader), gpa, to, len, NULL);

	gm_reader_leave(reader);
	return rc;
}

static int put(struct gm_reader *reader, uint64_t gpa, const void *from, size_t len)
{
	int rc = gm_write(gm_reader_enter(reader), gpa, from, len, NULL);

	gm_reader_leave(reader);
	return rc;
}

static struct gm_control_request decode(const struct wire_request *wire)
{
	return (struct gm_control_request){
		.code = le64toh(wire->code),
		.addr = le64toh(wire->addr),
		.len = le64toh(wire->len),
		.arg = le64toh(wire->arg),
	};
}

static struct wire_response encode(uint64_t code, const struct gm_control_result *r)
{
	int rc = r->code == -EFAULT || r->code == -ERANGE ? -EINVAL : r->code;
	bool figures = code == GM_CONTROL_INFO || code == GM_CONTROL_QUERY;

	return (struct wire_response){
		.code = htole32((uint32_t)-rc),
		.refused = htole32(r->stage == GM_CONTROL_REFUSED ? (uint32_t)code : 0),
		.value = htole64(r->value),
		.arg0 = htole64(figures ? r->arg0 : r->done),
		.arg1 = htole64(r->arg1),
	};
}

static void refuse(struct gm_control_result *r, int rc)
{
	*r = (struct gm_control_result){
		.size = sizeof(*r), .code = rc, .stage = GM_CONTROL_REFUSED};
}

static void do_text(struct gm_control *c, struct gm_reader *reader, struct gm_control_request *req,
	struct gm_control_result *r)
{
	char text[GM_CONTROL_TEXT_LEN + 1] = "";
	int rc = c->opts.allow & GM_CONTROL_BIT(GM_CONTROL_TEXT_NAME) ? 0 : -EPERM;

	if (!rc)
		rc = fetch(reader, req->arg, text, GM_CONTROL_TEXT_LEN);
	if (rc) {
		refuse(r, rc);
		return;
	}
	req->code = GM_CONTROL_SET_NAME;
	req->arg = 0;
	req->name = text;
	gm_control_request(c, req, r, NULL);
	req->code = GM_CONTROL_TEXT_NAME;
	req->name = NULL;
}

struct batch {
	union {
		struct wire_request in[GM_CONTROL_BATCH_MAX];
		struct wire_response out[GM_CONTROL_BATCH_MAX];
	} wire;
	struct gm_control_request reqs[GM_CONTROL_BATCH_MAX];
	struct gm_control_result rets[GM_CONTROL_BATCH_MAX];
};

static void do_batch(struct gm_control *c, struct gm_reader *reader,
	const struct gm_control_request *req, struct gm_control_result *r)
{
	struct batch b;
	size_t nr = (size_t)(req->len / GM_CONTROL_MESSAGE_LEN);
	int rc = 0;

	if (!(c->opts.allow & GM_CONTROL_BIT(GM_CONTROL_BATCH)))
		rc = -EPERM;
	else if (nr == 0 || nr > GM_CONTROL_BATCH_MAX || req->len % GM_CONTROL_MESSAGE_LEN)
		rc = -EINVAL;
	else if (!gm_control_take_token(c))
		rc = -EAGAIN;
	else
		rc = fetch(reader, req->addr, b.wire.in, (size_t)req->len);
	refuse(r, rc);
	if (rc)
		return;
	for (size_t i = 0; i < nr; i++) {
		b.reqs[i] = decode(&b.wire.in[i]);
		b.rets[i].size = sizeof(b.rets[i]);
	}
	r->value = gm_control_batch(c, b.reqs, nr, b.rets);
	for (size_t i = 0; i < nr; i++)
		b.wire.out[i] = encode(b.reqs[i].code, &b.rets[i]);
	r->code = put(reader, req->addr, b.wire.out, (size_t)req->len);
	r->stage = r->code ? GM_CONTROL_FAILED : GM_CONTROL_DONE;
	r->done = r->code ? 0 : req->len;
}

static int answer(struct gm_control *c, struct gm_reader *reader, uint64_t gpa)
{
	struct gm_control_result r = {.size = sizeof(r)};
	struct gm_control_request req;
	struct wire_request in;
	struct wire_response out;
	int rc = fetch(reader, gpa, &in, sizeof(in));

	if (rc)
		return rc;
	req = decode(&in);
	if (req.code == GM_CONTROL_TEXT_NAME)
		do_text(c, reader, &req, &r);
	else if (req.code == GM_CONTROL_BATCH)
		do_batch(c, reader, &req, &r);
	else
		gm_control_request(c, &req, &r, NULL);
	out = encode(req.code, &r);
	return put(reader, gpa, &out, sizeof(out));
}

int gm_control_message(struct gm_control *control, uint64_t gpa)
{
	struct gm_reader *reader;
	int rc = take_reader(control, &reader);

	if (!rc) {
		rc = answer(control, reader, gpa);
		give_reader(control, reader);
	}
	pthread_mutex_lock(&control->meter);
	control->sum.messages++;
	control->sum.unanswered += rc != 0;
	pthread_mutex_unlock(&control->meter);
	return rc;
}

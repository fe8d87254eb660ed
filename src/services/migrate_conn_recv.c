/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_conn_recv.c - what comes on a connection of a migration: bytes to openings and messages.
 *
 * A head is judged before anything that follows it is read, and where descriptors may come not one byte more than the
 * message is: so what comes with the first byte of a head belongs to it. Sums are taken of pieces as they come, while
 * they are in the cache.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "services/codec.h"
#include "services/migrate_conn_parts.h"
#include "sys/sys.h"

/* Of what follows a head, at a time. */
#define STEP ((256u << 10) + GM_MIGRATE_PAGES_HEAD)

/* Places are decoded where they came. */
_Static_assert(
	sizeof(struct gm_migrate_place) == GM_MIGRATE_PLACE &&
		(GM_CONN_ALIGN - GM_MIGRATE_PAGES_HEAD) % _Alignof(struct gm_migrate_place) == 0,
	"a place is as long as its bytes");

static int no(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

static int bad(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EBADMSG;
}

/* Bytes; 0 at the end; or negative. @fds: NULL if none may come now. */
static ssize_t take_from_socket(
	struct gm_migrate_conn *c, void *to, size_t len, struct gm_fds *fds, const char **ret_why)
{
	uint32_t wrong = 0;
	ssize_t nr;

	do
		nr = gm_fds_recv(c->fd, to, len, fds, MSG_DONTWAIT, &wrong);
	while (nr == -EINTR);
	if (nr < 0)
		return nr;
	c->came += (size_t)nr;
	c->in.drained = (size_t)nr < len;
	if (!(wrong & GM_FDS_UNWANTED))
		return nr;
	if (!fds)
		return no(ret_why, "descriptors came that belong to no message");
	*ret_why = "descriptors came, but this process cannot have more";
	return -EMFILE;
}

/* The same; where descriptors never come more is read at once, for the next calls. */
static ssize_t take(
	struct gm_migrate_conn *c, void *to, size_t len, struct gm_fds *fds, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;
	ssize_t more = 0;
	size_t nr;

	if (!in->ahead_nr && (!in->ahead || len > GM_CONN_AHEAD))
		return take_from_socket(c, to, len, fds, ret_why);
	if (!in->ahead_nr) {
		more = take_from_socket(c, in->ahead, GM_CONN_AHEAD, NULL, ret_why);
		if (more <= 0)
			return more;
		in->ahead_at = 0;
		in->ahead_nr = (size_t)more;
	}
	nr = in->ahead_nr < len ? in->ahead_nr : len;
	memcpy(to, in->ahead + in->ahead_at, nr);
	in->ahead_at += nr;
	in->ahead_nr -= nr;
	/* The end, if it is that, comes again. */
	if (nr < len && !c->in.drained)
		more = take_from_socket(c, (uint8_t *)to + nr, len - nr, NULL, ret_why);
	else
		more = 0;
	if (more < 0 && more != -EAGAIN)
		return more;
	return (ssize_t)nr + (more > 0 ? more : 0);
}

/* What gm_migrate_conn_hear() and _recv() return from now on. */
static int fail(struct gm_migrate_conn *c, int rc, const char *why)
{
	c->in.rc = rc;
	c->in.why = why;
	gm_fds_close(&c->in.fds);
	return rc;
}

int gm_migrate_conn_hear(struct gm_migrate_conn *c, size_t len, const uint8_t **ret)
{
	struct gm_migrate_conn_in *in = &c->in;
	const char *why = NULL;
	ssize_t nr;

	assert(len && len <= sizeof(in->bytes) && in->got < len);
	if (in->rc)
		return in->rc;
	nr = take(c, in->bytes + in->got, len - in->got, NULL, &why);
	if (nr == -EAGAIN)
		return 0;
	if (nr <= 0)
		return fail(c, nr < 0 ? (int)nr : in->got ? -ECONNRESET : -EPIPE, why);
	in->got += (size_t)nr;
	if (in->got < len)
		return 0;
	in->got = 0;
	*ret = in->bytes;
	return 1;
}

bool gm_migrate_conn_hears(const struct gm_migrate_conn *c)
{
	return c->in.got != 0;
}

bool gm_migrate_conn_drained(const struct gm_migrate_conn *c)
{
	return c->in.drained && !c->in.ahead_nr;
}

/* ---- one message ---- */

static uint8_t *body_of(const struct gm_migrate_conn_in *in)
{
	return gm_conn_align(in->room + GM_MIGRATE_PAGES_HEAD) - GM_MIGRATE_PAGES_HEAD;
}

static uint8_t *unpacked_of(const struct gm_migrate_conn_in *in)
{
	return gm_conn_align(in->unpacked);
}

static bool is_packed(const struct gm_migrate_conn_in *in)
{
	return in->placed &&
	       (in->pages.kind == GM_MIGRATE_BY_ZSTD || in->pages.kind == GM_MIGRATE_BY_LZ4);
}

static uint32_t nr_regions(const struct gm_migrate_terms *terms)
{
	return terms->regions ? terms->nr : 0;
}

static int begin(struct gm_migrate_conn *c, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;
	enum gm_migrate_role role = gm_migrate_role_of(c->slot);
	int rc = gm_migrate_get_head(
		in->bytes, !c->terms->source, role, c->terms->sole, &in->head, ret_why);

	if (rc)
		return rc;
	if (in->fds.nr && in->head.type != GM_MIGRATE_LAYOUT)
		return no(ret_why, "descriptors came with a message that has none");
	/* The table cannot know that those of post-copy go by bulk, too, if there is any. */
	if (in->head.type == GM_MIGRATE_PAGES && role == GM_MIGRATE_CONTROL && !c->terms->sole)
		return no(ret_why, "pages came on control, though there are bulk connections");
	if (in->head.len > in->most)
		return no(ret_why, "a message is longer than its connection may bring");
	in->done = 0;
	in->summed = 0;
	in->placed = false;
	(void)gm_checksum_begin(&in->sum);
	gm_checksum_add(&in->sum, in->bytes, GM_MIGRATE_SUMMED);
	return 0;
}

/* Judges where pages belong as soon as that is there, and adds to the sum what came. */
static int look(struct gm_migrate_conn *c, const char **ret_why)
{
	const struct gm_migrate_terms *terms = c->terms;
	struct gm_migrate_conn_in *in = &c->in;
	bool pages = in->head.type == GM_MIGRATE_PAGES;
	size_t until = in->done;
	int rc;

	if (pages && !in->placed) {
		if (in->done < GM_MIGRATE_PAGES_HEAD)
			return 0;
		rc = gm_migrate_get_pages(body_of(in), in->head.len, terms->regions,
			nr_regions(terms), terms->pages_max, terms->features, &in->pages, ret_why);
		if (rc)
			return rc;
		in->placed = true;
	}
	if (is_packed(in))
		until = GM_MIGRATE_PAGES_HEAD;
	gm_checksum_add(&in->sum, body_of(in) + in->summed, until - in->summed);
	in->summed = until;
	return 0;
}

static int unpack(struct gm_migrate_conn *c, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;
	size_t len = (size_t)in->pages.place.nr << GM_MIGRATE_PAGE_LOG2;

	if (!in->unpacked ||
		!gm_codec_unpack(in->pages.kind, in->decoder, body_of(in) + GM_MIGRATE_PAGES_HEAD,
			in->pages.stored, unpacked_of(in), len))
		return bad(ret_why, "packed pages do not unpack to their length");
	gm_checksum_add(&in->sum, unpacked_of(in), len);
	return 0;
}

/* ---- what it says ---- */

static int on_layout(
	struct gm_migrate_conn *c, struct gm_migrate_heard *heard, const char **ret_why)
{
	const struct gm_migrate_terms *terms = c->terms;
	struct gm_migrate_conn_in *in = &c->in;
	uint32_t nr = (uint32_t)in->head.number;
	uint32_t by_fd = 0;
	int rc;

	/* What is agreed on lies in the room. */
	if (!terms->room || terms->regions)
		return no(ret_why, "there is a layout already");
	rc = gm_migrate_get_layout(body_of(in), nr, terms->features, terms->room, ret_why);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < nr; i++)
		by_fd += terms->room[i].by_fd;
	if (by_fd != in->fds.nr)
		return no(ret_why, "a layout comes with another number of descriptors");
	heard->msg.nr = nr;
	heard->msg.regions = terms->room;
	heard->fds = &in->fds;
	return 0;
}

static int on_pages(struct gm_migrate_conn_in *in, struct gm_migrate_heard *heard)
{
	heard->msg.place = in->pages.place;
	heard->msg.kind = in->pages.kind;
	if (is_packed(in))
		heard->memory = unpacked_of(in);
	else if (in->pages.stored)
		heard->memory = body_of(in) + GM_MIGRATE_PAGES_HEAD;
	return 0;
}

static int get_place(const struct gm_migrate_conn *c, const uint8_t *bytes,
	struct gm_migrate_place *ret, const char **ret_why)
{
	return gm_migrate_get_place(bytes, c->terms->regions, nr_regions(c->terms), ret, ret_why);
}

static int on_places(
	struct gm_migrate_conn *c, struct gm_migrate_heard *heard, const char **ret_why)
{
	uint8_t *bytes = body_of(&c->in);
	/* Aligned: see above. */
	struct gm_migrate_place *places = (struct gm_migrate_place *)(void *)bytes;
	uint32_t nr = c->in.head.len / GM_MIGRATE_PLACE;

	for (uint32_t i = 0; i < nr; i++) {
		struct gm_migrate_place place;
		int rc = get_place(c, bytes + (size_t)i * GM_MIGRATE_PLACE, &place, ret_why);

		if (rc)
			return rc;
		places[i] = place;
	}
	heard->msg.nr = nr;
	heard->msg.places = places;
	return 0;
}

static int on_have(struct gm_migrate_conn *c, struct gm_migrate_heard *heard, const char **ret_why)
{
	const uint8_t *bits = body_of(&c->in) + GM_MIGRATE_PLACE;
	int rc = get_place(c, body_of(&c->in), &heard->msg.place, ret_why);

	if (rc)
		return rc;
	heard->msg.bits = bits;
	return gm_migrate_check_bits(
		&heard->msg.place, bits, c->in.head.len - GM_MIGRATE_PLACE, ret_why);
}

static int decode(struct gm_migrate_conn *c, struct gm_migrate_heard *heard, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;

	switch (in->head.type) {
	case GM_MIGRATE_LAYOUT:
		return on_layout(c, heard, ret_why);
	case GM_MIGRATE_PAGES:
		return on_pages(in, heard);
	case GM_MIGRATE_DISCARD:
	case GM_MIGRATE_DROPPED:
		return on_places(c, heard, ret_why);
	case GM_MIGRATE_REQUEST:
		return get_place(c, body_of(in), &heard->msg.place, ret_why);
	case GM_MIGRATE_HAVE:
		return on_have(c, heard, ret_why);
	case GM_MIGRATE_SWITCH:
		return gm_migrate_get_switch(body_of(in), &heard->msg.bytes, ret_why);
	case GM_MIGRATE_STATE:
		heard->msg.len = in->head.len;
		heard->memory = body_of(in);
		return 0;
	case GM_MIGRATE_REFUSED:
		gm_migrate_get_text(in->head.len ? body_of(in) : in->bytes, in->head.len, in->text);
		heard->text = in->text;
		return 0;
	default:
		return 0;
	}
}

static int finish(struct gm_migrate_conn *c, struct gm_migrate_heard *ret, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;
	struct gm_migrate_heard heard = {.msg = {.slot = c->slot,
						 .epoch = c->epoch,
						 .type = in->head.type,
						 .number = in->head.number}};
	int rc = is_packed(in) ? unpack(c, ret_why) : 0;

	if (rc)
		return rc;
	if (gm_checksum_end(&in->sum) != in->head.sum)
		return bad(ret_why, "the sum of a message is wrong");
	rc = decode(c, &heard, ret_why);
	if (rc)
		return rc;
	in->got = 0;
	*ret = heard;
	return 1;
}

static int hear_on(struct gm_migrate_conn *c, struct gm_migrate_heard *ret, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;
	bool fresh = in->got < GM_MIGRATE_HEAD;
	ssize_t nr;

	if (fresh) {
		nr = take(c, in->bytes + in->got, GM_MIGRATE_HEAD - in->got,
			in->got ? NULL : &in->fds, ret_why);
		if (nr <= 0)
			return nr < 0 ? (int)nr : in->got ? -ECONNRESET : -EPIPE;
		in->got += (size_t)nr;
		if (in->got < GM_MIGRATE_HEAD)
			return 0;
		nr = begin(c, ret_why);
		if (nr)
			return (int)nr;
	}
	if (in->done < in->head.len) {
		size_t left = in->head.len - in->done;

		nr = take(c, body_of(in) + in->done, left < STEP ? left : STEP, NULL, ret_why);
		if (nr == -EAGAIN && fresh)
			return 0;
		if (nr <= 0)
			return nr < 0 ? (int)nr : -ECONNRESET;
		in->done += (size_t)nr;
		nr = look(c, ret_why);
		if (nr)
			return (int)nr;
	}
	return in->done < in->head.len ? 0 : finish(c, ret, ret_why);
}

int gm_migrate_conn_recv(
	struct gm_migrate_conn *c, struct gm_migrate_heard *ret, const char **ret_why)
{
	struct gm_migrate_conn_in *in = &c->in;
	const char *why = NULL;
	int rc = in->rc;

	*ret_why = in->why;
	if (rc)
		return rc;
	in->drained = false;
	/* Nobody took those of the last message. */
	if (!in->got)
		gm_fds_close(&in->fds);
	rc = hear_on(c, ret, &why);
	if (rc < 0 && rc != -EAGAIN)
		rc = fail(c, rc, why);
	*ret_why = why;
	return rc;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_conn_bad.c - what a peer may do to a connection of a migration: bytes that are cut or changed,
 * packed pages that are not, descriptors that do not belong. It is refused, nothing is left behind, and no page is
 * taken for another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "fault.h"
#include "migrate_pair.h"
#include "services/checksum.h"
#include "services/codec.h"

#define BULK 1u

/* One end that hears what a bare socket sends. */
struct victim {
	struct pair p;
	int to;  /* the end */
	int raw; /* the socket */
	struct gm_migrate_conn *c;
	const char *why;
};

static void victim_init(struct victim *v, enum pair_kind kind, int to)
{
	pair_init(&v->p, kind);
	v->to = to;
	v->raw = v->p.fd[!to];
	v->why = NULL;
}

static void victim_conn(struct victim *v, uint32_t slot)
{
	pair_conn(&v->p, v->to, slot);
	v->c = v->p.c[v->to];
}

static void victim_open(struct victim *v, const struct sample *s)
{
	victim_init(v, OVER_UNIX, !s->from);
	v->p.terms[v->to].sole = !s->slot;
	if (s->type == GM_MIGRATE_LAYOUT)
		v->p.terms[v->to].regions = NULL;
	if (s->type == GM_MIGRATE_PAGES)
		v->p.terms[v->to].pages_max = s->nr;
	victim_conn(v, s->slot);
}

/* Reads as long as that does something. What is said in words has words. */
static int hear(struct victim *v, struct gm_migrate_heard *ret)
{
	int rc;

	do
		rc = gm_migrate_conn_recv(v->c, ret, &v->why);
	while (!rc);
	assert_int_equal(v->why != NULL, rc == -EPROTO || rc == -EBADMSG || rc == -EMFILE);
	return rc;
}

/* It fails so, with such a word, now and from now on. */
static void refuses(struct victim *v, int rc, const char *word)
{
	struct gm_migrate_heard heard = {.msg.type = 99};
	const char *why;

	assert_int_equal(hear(v, &heard), rc);
	why = v->why;
	if (word && !strstr(why, word))
		fail_msg("\"%s\" does not say \"%s\"", why, word);
	assert_int_equal(send(v->raw, "more", 4, MSG_NOSIGNAL), 4);
	assert_int_equal(gm_migrate_conn_recv(v->c, &heard, &v->why), rc);
	assert_ptr_equal(v->why, why);
	assert_int_equal(heard.msg.type, 99);
}

static void send_sample(struct victim *v, const struct sample *s, const uint8_t *bytes, size_t len)
{
	static const int fds[] = {STDERR_FILENO};

	if (!len)
		return;
	raw_send_fds(v->raw, bytes, len, fds, s->type == GM_MIGRATE_LAYOUT);
}

static void a_message_may_be_cut_at_each_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		uint8_t *bytes;
		size_t len;

		if (!sample_can(s))
			continue;
		bytes = sample_bytes(s, &len);
		for (size_t cut = 0; cut < len; cut += len < 300                   ? 1
						       : cut < 80 || cut > len - 5 ? 1
										   : len / 40) {
			struct gm_migrate_heard heard;
			struct victim v;

			if (cut > 150000)
				break;
			victim_open(&v, s);
			send_sample(&v, s, bytes, cut);
			assert_int_equal(hear(&v, &heard), -EAGAIN);
			assert_int_equal(gm_migrate_conn_hears(v.c), cut != 0);
			assert_int_equal(shutdown(v.raw, SHUT_WR), 0);
			assert_int_equal(hear(&v, &heard), cut ? -ECONNRESET : -EPIPE);
			assert_int_equal(hear(&v, &heard), cut ? -ECONNRESET : -EPIPE);
			pair_close(&v.p);
		}
		free(bytes);
	}
}

static void a_peer_may_go_between_messages(void **state)
{
	static const int to[] = {SOURCE, DESTINATION};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		const uint8_t *bytes;
		struct gm_migrate_heard heard;
		struct victim v;

		victim_init(&v, i / 2 ? OVER_TCP : OVER_UNIX, to[i % 2]);
		victim_conn(&v, 0);
		raw_send(v.raw, (const uint8_t *)"\x0c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
		close(v.raw);
		v.p.fd[!v.to] = -1;
		assert_int_equal(hear(&v, &heard), -ECONNRESET);
		/* An opening, too. */
		assert_int_equal(gm_migrate_conn_hear(v.c, 64, &bytes), -ECONNRESET);
		pair_close(&v.p);
		victim_init(&v, i / 2 ? OVER_TCP : OVER_UNIX, to[i % 2]);
		victim_conn(&v, 0);
		close(v.raw);
		v.p.fd[!v.to] = -1;
		assert_int_equal(gm_migrate_conn_hear(v.c, 64, &bytes), -EPIPE);
		assert_int_equal(hear(&v, &heard), -EPIPE);
		pair_close(&v.p);
	}
}

/* With a sum of 64 bits no single one passes; a longer message waits for its end. */
static void a_flipped_bit_never_makes_a_message(void **state)
{
	unsigned int refused = 0;
	unsigned int summed = 0;
	unsigned int waits = 0;
	unsigned int same = 0;

	(void)state;
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		uint8_t *bytes;
		size_t len;

		if (!sample_can(s))
			continue;
		bytes = sample_bytes(s, &len);
		/* All bits of what is short, and of one raw page. */
		for (size_t bit = 0; bit < 8 * len && len < 5000;
			bit += len < 300 || bit < 8 * 50 ? 1 : 61) {
			struct gm_migrate_heard heard;
			struct victim v;
			int rc;

			victim_open(&v, s);
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			send_sample(&v, s, bytes, len);
			rc = hear(&v, &heard);
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			refused += rc == -EPROTO;
			summed += rc == -EBADMSG;
			waits += rc == -EAGAIN;
			/* There are several packed forms of a page. */
			if (rc == 1 && s->packs) {
				sample_check(&heard, s);
				rc = -EBADMSG;
				same++;
			}
			if (rc != -EPROTO && rc != -EBADMSG && rc != -EAGAIN)
				fail_msg("sample %zu, bit %zu: %d", i, bit, rc);
			if (rc == -EAGAIN)
				assert_in_range(bit / 8, 4, 7); /* the length */
			pair_close(&v.p);
		}
		free(bytes);
	}
	assert_true(refused > 1000 && summed > 3000 && waits > 30 && same < 100);
}

/* ---- pages that are made by hand ---- */

struct made {
	struct gm_migrate_pages pages;
	uint64_t number;
	const void *stored;
	const void *memory; /* of which the sum is */
	size_t len;
};

/* Sends them with a sum that is right for @memory. */
static void send_made(const struct victim *v, const struct made *m)
{
	size_t len = GM_MIGRATE_PAGES_HEAD + m->pages.stored;
	struct gm_migrate_head head = {
		.type = GM_MIGRATE_PAGES, .len = (uint32_t)len, .number = m->number};
	uint8_t *bytes = malloc(GM_MIGRATE_HEAD + len);
	struct gm_checksum_run run;

	assert_non_null(bytes);
	gm_migrate_put_head(&head, bytes);
	gm_migrate_put_pages(&m->pages, bytes + GM_MIGRATE_HEAD);
	if (m->pages.stored)
		memcpy(bytes + GM_MIGRATE_HEAD + GM_MIGRATE_PAGES_HEAD, m->stored, m->pages.stored);
	assert_true(gm_checksum_begin(&run));
	gm_checksum_add(&run, bytes, GM_MIGRATE_SUMMED);
	gm_checksum_add(&run, bytes + GM_MIGRATE_HEAD, GM_MIGRATE_PAGES_HEAD);
	if (m->len)
		gm_checksum_add(&run, m->memory, m->len);
	head.sum = gm_checksum_end(&run);
	gm_migrate_put_head(&head, bytes);
	raw_send(v->raw, bytes, GM_MIGRATE_HEAD + len);
	free(bytes);
}

/* @stored bytes said to be @nr pages, whose sum is that of @unpacked bytes of memory. */
static void try_packed(
	uint32_t kind, const uint8_t *stored, size_t len, uint32_t nr, size_t unpacked, int rc)
{
	struct gm_migrate_heard heard;
	struct victim v;

	victim_init(&v, OVER_UNIX, DESTINATION);
	victim_conn(&v, BULK);
	send_made(&v, &(struct made){
			      .pages = {.place = {.nr = nr}, .kind = kind, .stored = (uint32_t)len},
			      .number = 1,
			      .stored = stored,
			      .memory = sample_memory(true),
			      .len = unpacked});
	if (rc) {
		refuses(&v, rc, "unpack");
	} else {
		assert_int_equal(hear(&v, &heard), 1);
		assert_memory_equal(heard.memory, sample_memory(true), (size_t)nr << 12);
	}
	pair_close(&v.p);
}

static void packed_pages_unpack_to_their_length(void **state)
{
	static const uint32_t kinds[] = {GM_MIGRATE_BY_ZSTD, GM_MIGRATE_BY_LZ4};
	uint8_t *packed = malloc(16384);

	(void)state;
	assert_non_null(packed);
	for (size_t i = 0; i < 2; i++) {
		uint32_t kind = kinds[i];
		void *encoder = gm_codec_encoder(kind);
		size_t two;

		if (!gm_codec_has(kind))
			continue;
		two = gm_codec_pack(kind, encoder, 1, sample_memory(true), 8192, packed, 8192);
		assert_true(two > 10 && two < 4096);
		try_packed(kind, packed, two, 2, 8192, 0);
		/* Of another length: more than there is room for, and less. */
		try_packed(kind, packed, two, 1, 4096, -EBADMSG);
		try_packed(kind, packed, two, 3, 8192, -EBADMSG);
		try_packed(kind, packed, two, 64, 8192, -EBADMSG);
		/* Cut, longer, other bytes. */
		for (size_t len = 1; len < two; len++)
			try_packed(kind, packed, len, 2, 8192, -EBADMSG);
		memset(packed + two, 0, 10);
		try_packed(kind, packed, two + 1, 2, 8192, -EBADMSG);
		memset(packed, 0x5a, 4000);
		try_packed(kind, packed, 4000, 1, 4096, -EBADMSG);
		memset(packed, 0, 4000);
		try_packed(kind, packed, 4000, 1, 4096, -EBADMSG);
		gm_codec_encoder_free(kind, encoder);
	}
	free(packed);
}

/* The sum is of what was unpacked. */
static void packed_pages_with_the_sum_of_others_are_refused(void **state)
{
	static const uint32_t kinds[] = {GM_MIGRATE_BY_ZSTD, GM_MIGRATE_BY_LZ4};
	uint8_t packed[4096];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		void *encoder = gm_codec_encoder(kinds[i]);
		struct victim v;
		size_t len;

		if (!gm_codec_has(kinds[i]))
			continue;
		len = gm_codec_pack(
			kinds[i], encoder, 1, sample_memory(true), 4096, packed, sizeof(packed));
		victim_init(&v, OVER_UNIX, DESTINATION);
		victim_conn(&v, BULK);
		send_made(&v, &(struct made){.pages = {.place = {.nr = 1},
						     .kind = kinds[i],
						     .stored = (uint32_t)len},
				      .number = 1,
				      .stored = packed,
				      .memory = sample_memory(false),
				      .len = 4096});
		refuses(&v, -EBADMSG, "sum");
		pair_close(&v.p);
		gm_codec_encoder_free(kinds[i], encoder);
	}
}

static void zeros_with_the_sum_of_another_place_are_refused(void **state)
{
	static const size_t at[] = {8, 24, 28, 32, 40}; /* number, place, kind */

	(void)state;
	for (uint32_t kind = GM_MIGRATE_ZEROS; kind <= GM_MIGRATE_LOST; kind++) {
		for (size_t i = 0; i <= sizeof(at) / sizeof(at[0]); i++) {
			const struct sample s = {
				GM_MIGRATE_PAGES, .kind = kind, .slot = BULK, .number = 4, .nr = 6};
			struct gm_migrate_heard heard;
			struct victim v;
			size_t len;
			uint8_t *bytes = sample_bytes(&s, &len);

			victim_open(&v, &s);
			if (i == sizeof(at) / sizeof(at[0])) {
				raw_send(v.raw, bytes, len);
				assert_int_equal(hear(&v, &heard), 1);
				assert_null(heard.memory);
			} else {
				/* Something else that can be: kind 5 for 4, region 0 for 1, and so on. */
				bytes[at[i]] ^= at[i] == 28 ? 2 : 1;
				if (at[i] == 24)
					gm_put_le(bytes + 32, 8, 3);
				raw_send(v.raw, bytes, len);
				refuses(&v, -EBADMSG, "sum");
			}
			free(bytes);
			pair_close(&v.p);
		}
	}
}

static void places_are_judged_before_their_bytes_come(void **state)
{
	static const struct made cases[] = {
		{.pages = {.place = {.region = 3, .nr = 64}, .kind = GM_MIGRATE_RAW}},
		{.pages = {.place = {.nr = 64, .first = 449}, .kind = GM_MIGRATE_RAW}},
		{.pages = {.place = {.nr = 64}, .kind = 6}},
		{.pages = {.place = {.nr = 63}, .kind = GM_MIGRATE_RAW}},
		{.pages = {.place = {.nr = 65}, .kind = GM_MIGRATE_RAW}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_migrate_pages pages = cases[i].pages;
		struct gm_migrate_head head = {
			.type = GM_MIGRATE_PAGES, .len = 24 + 64 * 4096, .number = 1};
		uint8_t bytes[48];
		struct victim v;

		pages.stored = 64 * 4096;
		gm_migrate_put_head(&head, bytes);
		gm_migrate_put_pages(&pages, bytes + 24);
		victim_init(&v, OVER_UNIX, DESTINATION);
		victim_conn(&v, BULK);
		raw_send(v.raw, bytes, sizeof(bytes));
		refuses(&v, -EPROTO, NULL);
		pair_close(&v.p);
		/* A head alone, that says more than this connection has room for. */
		head.len += 1 + (uint32_t)i;
		gm_migrate_put_head(&head, bytes);
		victim_init(&v, OVER_UNIX, DESTINATION);
		victim_conn(&v, BULK);
		raw_send(v.raw, bytes, GM_MIGRATE_HEAD);
		refuses(&v, -EPROTO, "longer");
		pair_close(&v.p);
	}
}

static void control_brings_pages_only_if_it_is_alone(void **state)
{
	const struct sample s = {GM_MIGRATE_PAGES, .kind = GM_MIGRATE_ZEROS, .nr = 1};
	size_t len;
	uint8_t *bytes = sample_bytes(&s, &len);
	struct gm_migrate_heard heard;
	struct victim v;

	(void)state;
	victim_init(&v, OVER_UNIX, DESTINATION);
	victim_conn(&v, 0);
	raw_send(v.raw, bytes, len);
	refuses(&v, -EPROTO, "bulk");
	pair_close(&v.p);
	victim_open(&v, &s);
	raw_send(v.raw, bytes, len);
	assert_int_equal(hear(&v, &heard), 1);
	pair_close(&v.p);
	/* Before it is known which connection it is, only a head that nothing follows comes. */
	victim_init(&v, OVER_UNIX, DESTINATION);
	v.p.terms[DESTINATION].sole = true;
	assert_int_equal(gm_migrate_conn_create(v.p.fd[1], &v.p.terms[1], &v.p.c[1], NULL), 0);
	v.c = v.p.c[1];
	raw_send(v.raw, bytes, len);
	refuses(&v, -EPROTO, "longer");
	pair_close(&v.p);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_may_be_cut_at_each_byte),
		cmocka_unit_test(a_peer_may_go_between_messages),
		cmocka_unit_test(a_flipped_bit_never_makes_a_message),
		cmocka_unit_test(packed_pages_unpack_to_their_length),
		cmocka_unit_test(packed_pages_with_the_sum_of_others_are_refused),
		cmocka_unit_test(zeros_with_the_sum_of_another_place_are_refused),
		cmocka_unit_test(places_are_judged_before_their_bytes_come),
		cmocka_unit_test(control_brings_pages_only_if_it_is_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

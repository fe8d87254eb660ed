/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_conn_fds.c - descriptors on a connection of a migration: they come with a layout, as many as it
 * says, and with nothing else; what is not wanted is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "migrate_pair.h"

#define MANY GM_MIGRATE_FDS_MAX

static struct gm_migrate_region *regions_by_fd(uint32_t nr, uint32_t by_fd)
{
	struct gm_migrate_region *regions = calloc(nr, sizeof(*regions));

	assert_non_null(regions);
	for (uint32_t i = 0; i < nr; i++)
		regions[i] = (struct gm_migrate_region){.gpa = MIB(2) * i,
			.len = MIB(2),
			.fd_off = i < by_fd ? MIB(2) * (nr - i) : 0,
			.page_log2 = 12,
			.by_fd = i < by_fd};
	return regions;
}

/* Files that can be told apart by their length. */
static void make_files(int *fds, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		fds[i] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
		assert_true(fds[i] >= 0);
	}
	for (uint32_t i = 0; i < nr && i < 3; i++) {
		char name[] = "/tmp/guestmem-fds-XXXXXX";
		int file = mkstemp(name);

		assert_true(file >= 0 && unlink(name) == 0);
		assert_int_equal(ftruncate(file, 1000 + i), 0);
		assert_int_equal(dup3(file, fds[i], O_CLOEXEC), fds[i]);
		close(file);
	}
}

static void close_all(const int *fds, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		close(fds[i]);
}

static void open_layout(struct pair *p, struct gm_migrate_region *regions, uint32_t nr)
{
	pair_init(p, OVER_UNIX);
	p->terms[SOURCE].regions = regions;
	p->terms[SOURCE].nr = nr;
	p->terms[DESTINATION].regions = NULL;
	pair_conn(p, SOURCE, 0);
	pair_conn(p, DESTINATION, 0);
}

static void descriptors_come_in_the_order_of_regions(void **state)
{
	static const uint32_t numbers[] = {0, 1, 3, MANY};
	int fds[MANY];

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint32_t nr = numbers[i / 2];
		bool taken = i % 2;
		struct gm_migrate_region *regions = regions_by_fd(4096, nr);
		size_t before = fault_open_fds();
		struct gm_migrate_heard heard;
		struct stat st;
		struct pair p;

		make_files(fds, nr);
		open_layout(&p, regions, 4096);
		assert_int_equal(gm_migrate_conn_say_layout(p.c[0], fds, nr + 1), -EINVAL);
		assert_false(gm_migrate_conn_sends(p.c[0]));
		assert_int_equal(gm_migrate_conn_say_layout(p.c[0], fds, nr), 0);
		/* They come with the first byte, and no others behind it. */
		assert_int_equal(pair_move(&p, SOURCE, i < 4 ? 1000 : SIZE_MAX, &heard), 1);
		assert_int_equal(heard.msg.nr, 4096);
		assert_memory_equal(&heard.msg.regions[4095], &regions[4095], sizeof(*regions));
		assert_int_equal(heard.fds->nr, nr);
		for (uint32_t n = 0; n < nr && n < 3; n++) {
			assert_int_equal(fstat(heard.fds->fd[n], &st), 0);
			assert_int_equal(st.st_size, 1000 + n);
			assert_int_equal(fcntl(heard.fds->fd[n], F_GETFD), FD_CLOEXEC);
		}
		close_all(fds, nr);
		assert_int_equal(fault_open_fds(), before + 2 + nr);
		if (taken) {
			close_all(heard.fds->fd, nr);
			heard.fds->nr = 0;
		}
		/* Who did not take them has none after the next call. */
		if (i % 4 == 0) {
			const char *why;

			assert_int_equal(
				gm_migrate_conn_recv(p.c[DESTINATION], &heard, &why), -EAGAIN);
			assert_int_equal(fault_open_fds(), before + 2);
		}
		pair_close(&p);
		assert_int_equal(fault_open_fds(), before);
		free(regions);
	}
}

/* The bytes of a layout; for free(). */
static uint8_t *layout_bytes(uint32_t nr, uint32_t by_fd, size_t *ret_len)
{
	struct gm_migrate_region *regions = regions_by_fd(nr, by_fd);
	uint8_t *bytes = malloc(GM_MIGRATE_HEAD + nr * GM_MIGRATE_REGION);
	int fds[MANY];
	struct pair p;
	size_t sent;

	assert_non_null(bytes);
	make_files(fds, by_fd);
	open_layout(&p, regions, nr);
	assert_int_equal(gm_migrate_conn_say_layout(p.c[0], fds, by_fd), 0);
	assert_int_equal(gm_migrate_conn_flush(p.c[0], SIZE_MAX, &sent), 0);
	assert_int_equal(recv(p.fd[1], bytes, sent, 0), sent);
	pair_close(&p);
	close_all(fds, by_fd);
	free(regions);
	*ret_len = sent;
	return bytes;
}

/* Of @bytes so many come without descriptors, then the rest with them. */
static int receive(const uint8_t *bytes, size_t len, size_t first, uint32_t nr_fds,
	const struct gm_migrate_terms *terms, const char **ret_why)
{
	size_t before = fault_open_fds();
	struct gm_migrate_heard heard;
	int fds[MANY];
	struct pair p;
	int rc = 0;

	make_files(fds, nr_fds);
	pair_init(&p, OVER_UNIX);
	p.terms[1] = *terms;
	p.terms[1].room = p.room;
	pair_conn(&p, DESTINATION, 0);
	if (first) {
		raw_send(p.fd[0], bytes, first);
		while (!rc)
			rc = gm_migrate_conn_recv(p.c[1], &heard, ret_why);
		assert_int_equal(rc, -EAGAIN);
	}
	if (first < len)
		raw_send_fds(p.fd[0], bytes + first, len - first, fds, nr_fds);
	close_all(fds, nr_fds);
	do
		rc = gm_migrate_conn_recv(p.c[1], &heard, ret_why);
	while (!rc);
	/* At once, not when it is freed. */
	if (rc < 0)
		assert_int_equal(fault_open_fds(), before + 2);
	pair_close(&p);
	assert_int_equal(fault_open_fds(), before);
	return rc;
}

static void as_many_come_as_the_layout_says(void **state)
{
	static const struct gm_migrate_terms terms = {
		.pages_max = P_PAGES, .features = GM_MIGRATE_FEATURES};
	struct gm_migrate_terms without = terms;
	const char *why;

	(void)state;
	without.features = GM_MIGRATE_POSTCOPY;
	for (uint32_t said = 0; said <= 4; said++) {
		size_t len;
		uint8_t *bytes = layout_bytes(5, said, &len);

		for (uint32_t came = 0; came <= 5; came++) {
			assert_int_equal(receive(bytes, len, 0, came, &terms, &why),
				came == said ? 1 : -EPROTO);
			assert_int_equal(why != NULL, came != said);
		}
		assert_int_equal(receive(bytes, len, 0, said, &without, &why), said ? -EPROTO : 1);
		free(bytes);
	}
}

static void they_come_with_the_first_byte_or_not_at_all(void **state)
{
	static const struct gm_migrate_terms terms = {
		.pages_max = P_PAGES, .features = GM_MIGRATE_FEATURES};
	const char *why;
	size_t len;
	uint8_t *bytes = layout_bytes(3, 2, &len);

	(void)state;
	assert_int_equal(receive(bytes, len, 0, 2, &terms, &why), 1);
	for (size_t first = 1; first < len; first++) {
		assert_int_equal(receive(bytes, len, first, 2, &terms, &why), -EPROTO);
		assert_non_null(strstr(why, "descriptors"));
	}
	free(bytes);
}

static void other_messages_bring_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		struct gm_migrate_terms terms = {.regions = p_regions,
			.nr = P_REGIONS,
			.pages_max = P_PAGES,
			.features = GM_MIGRATE_FEATURES,
			.sole = true};
		const char *why;
		uint8_t *bytes;
		size_t len;

		if (s->slot || s->from != SOURCE || s->type == GM_MIGRATE_LAYOUT || !sample_can(s))
			continue;
		bytes = sample_bytes(s, &len);
		if (len > 100000) {
			free(bytes);
			continue;
		}
		assert_int_equal(receive(bytes, len, 0, 0, &terms, &why), 1);
		for (size_t first = 0; first < len; first += 1 + len / 50) {
			assert_int_equal(receive(bytes, len, first, 1, &terms, &why), -EPROTO);
			assert_non_null(strstr(why, "descriptors"));
		}
		assert_int_equal(receive(bytes, len, 0, MANY, &terms, &why), -EPROTO);
		free(bytes);
	}
}

static void openings_bring_none(void **state)
{
	static const uint8_t bytes[64] = {1};
	size_t before = fault_open_fds();

	(void)state;
	for (size_t first = 0; first < 64; first += 21) {
		int fds[2] = {STDERR_FILENO, STDERR_FILENO};
		const uint8_t *got;
		struct pair p;

		pair_init(&p, OVER_UNIX);
		pair_conn(&p, DESTINATION, 0);
		if (first) {
			raw_send(p.fd[0], bytes, first);
			assert_int_equal(gm_migrate_conn_hear(p.c[1], 64, &got), 0);
		}
		raw_send_fds(p.fd[0], bytes + first, 64 - first, fds, 2);
		assert_int_equal(gm_migrate_conn_hear(p.c[1], 64, &got), -EPROTO);
		assert_int_equal(gm_migrate_conn_hear(p.c[1], 64, &got), -EPROTO);
		assert_int_equal(fault_open_fds(), before + 2);
		pair_close(&p);
	}
	assert_int_equal(fault_open_fds(), before);
}

static void there_is_one_layout(void **state)
{
	static const struct gm_migrate_terms terms = {.regions = p_regions,
		.nr = P_REGIONS,
		.pages_max = P_PAGES,
		.features = GM_MIGRATE_FEATURES};
	const char *why;
	size_t len;
	uint8_t *bytes = layout_bytes(3, 2, &len);

	(void)state;
	assert_int_equal(receive(bytes, len, 0, 2, &terms, &why), -EPROTO);
	assert_non_null(strstr(why, "already"));
	free(bytes);
}

/* Descriptors for which this process has no room are lost: so is what comes with them. */
static void without_room_for_descriptors_it_says_so(void **state)
{
	static const struct gm_migrate_terms terms = {
		.pages_max = P_PAGES, .features = GM_MIGRATE_FEATURES};
	struct gm_migrate_heard heard;
	struct rlimit limit;
	struct rlimit low;
	const char *why;
	int fds[4];
	struct pair p;
	size_t before;
	size_t len;
	uint8_t *bytes = layout_bytes(5, 4, &len);
	int rc;

	(void)state;
	before = fault_open_fds();
	make_files(fds, 4);
	pair_init(&p, OVER_UNIX);
	p.terms[1] = terms;
	p.terms[1].room = p.room;
	pair_conn(&p, DESTINATION, 0);
	raw_send_fds(p.fd[0], bytes, len, fds, 4);
	close_all(fds, 4);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	/* The first two have room. */
	rc = fcntl(STDERR_FILENO, F_DUPFD, 0);
	close(rc);
	low.rlim_cur = (rlim_t)rc + 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	rc = gm_migrate_conn_recv(p.c[1], &heard, &why);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(rc, -EMFILE);
	assert_non_null(strstr(why, "cannot have more"));
	assert_int_equal(fault_open_fds(), before + 2);
	assert_int_equal(gm_migrate_conn_recv(p.c[1], &heard, &why), -EMFILE);
	pair_close(&p);
	assert_int_equal(fault_open_fds(), before);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_come_in_the_order_of_regions),
		cmocka_unit_test(as_many_come_as_the_layout_says),
		cmocka_unit_test(they_come_with_the_first_byte_or_not_at_all),
		cmocka_unit_test(other_messages_bring_none),
		cmocka_unit_test(openings_bring_none),
		cmocka_unit_test(there_is_one_layout),
		cmocka_unit_test(without_room_for_descriptors_it_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

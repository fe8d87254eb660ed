/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pushed.h - what the tests of pushed pages share: memory of each sort in a pager, what is pushed into it, and threads
 * that wait for a page of it.
 */
#ifndef GM_TESTS_PUSHED_H
#define GM_TESTS_PUSHED_H

#include <stdio.h>

#include "one_pager.h"

#define PUSHED GIB(1) /* added to an offset: other words than the source's */

enum sort { PRIVATE, MOVED, SHARED, HUGE_SHARED, HUGE_PRIVATE, SORTS };

static struct {
	uint8_t *at;
	uint8_t *data; /* what is pushed */
	uint64_t len;
	uint64_t page;
	uint64_t area;
	int fd;
} m;

static inline int map_sort(enum sort sort)
{
	bool huge = sort == HUGE_SHARED || sort == HUGE_PRIVATE;
	bool file = sort == SHARED || sort == HUGE_SHARED;
	int flags = (file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | (huge ? MAP_HUGETLB : 0);
	void *at;

	m.fd = -1;
	m.page = huge ? MIB(2) : PAGE;
	m.len = huge ? MIB(16) : MIB(2);
	if (file) {
		m.fd = memfd_create("push", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
		assert_int_equal(ftruncate(m.fd, (off_t)m.len), 0);
	}
	at = mmap(NULL, m.len, PROT_READ | PROT_WRITE, file ? MAP_SHARED : flags, m.fd, 0);
	assert_true(at != MAP_FAILED);
	m.at = at;
	m.data = map_anon(m.len);
	fill_words(m.data, PUSHED, m.len);
	return file ? GM_PAGER_FILE : 0;
}

static inline void unmap_sort(void)
{
	munmap(m.at, m.len);
	munmap(m.data, m.len);
	if (m.fd >= 0)
		close(m.fd);
}

static inline void add(enum sort sort, uint32_t flags)
{
	flags |= (uint32_t)map_sort(sort);
	start_pager_with(m.len, (struct gm_pager_opts){.retry_ns = 20000});
	assert_ok(gm_pager_add_range(pager, m.at, m.len,
		AREA(.source = source, .flags = flags, .fd = m.fd,
			.way = sort == MOVED ? GM_PAGER_MOVE : GM_PAGER_AUTO),
		&m.area, &err));
}

static inline void end(void)
{
	stop_pager();
	unmap_sort();
}

/* Pages by number. Returns as gm_pager_push(); all of it is dealt with if that is 0. */
static inline int push(uint64_t first, uint64_t nr, uint64_t *ret_installed)
{
	uint64_t done = 99;
	uint64_t installed = 99;
	int rc = gm_pager_push(pager, m.area, first * m.page, m.data + first * m.page, nr * m.page,
		&done, &installed);

	if (!rc)
		assert_int_equal(done, nr * m.page);
	*ret_installed = installed / m.page;
	return rc;
}

static inline bool is_pushed(uint64_t first, uint64_t nr)
{
	return has_words(m.at + first * m.page, PUSHED + first * m.page, nr * m.page);
}

static inline bool is_of_source(uint64_t first, uint64_t nr)
{
	return has_words(m.at + first * m.page, first * m.page, nr * m.page);
}

static inline bool pool(enum sort sort)
{
	if (sort < HUGE_SHARED || support_pool(21, 24))
		return true;
	printf("skipped: no huge pages\n");
	return false;
}

/* Reads by instructions, or writes by a system call, in a thread. */
struct reader {
	pthread_t thread;
	uint8_t *at;
	bool by_call;
	int pipe[2];
	uint64_t word;
};

static inline void *touch(void *arg)
{
	struct reader *r = arg;
	uint8_t *at = r->at;

	if (r->by_call && write(r->pipe[1], at, 8) == 8)
		return (void *)(intptr_t)(read(r->pipe[0], &r->word, 8) == 8);
	if (r->by_call)
		return NULL;
	r->word = *(volatile uint64_t *)at;
	return (void *)1;
}

static inline void start_reader(struct reader *r, uint64_t page, bool by_call)
{
	*r = (struct reader){.at = m.at + page * m.page, .by_call = by_call};
	assert_int_equal(pipe(r->pipe), 0);
	assert_int_equal(pthread_create(&r->thread, NULL, touch, r), 0);
}

/* What it got; 0: an error. */
static inline uint64_t end_reader(struct reader *r)
{
	void *good;

	pthread_join(r->thread, &good);
	close(r->pipe[0]);
	close(r->pipe[1]);
	return good ? r->word : 0;
}

#define WAIT_UNTIL(what)                                                                           \
	do {                                                                                       \
		uint64_t until_ = gm_sys_now_ns() + UINT64_C(30000000000);                         \
		while (!(what)) {                                                                  \
			if (gm_sys_now_ns() > until_)                                              \
				fail_msg("never: %s", #what);                                      \
			sched_yield();                                                             \
		}                                                                                  \
	} while (0)

/* In the thread that faults. */
static inline void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int rc = gm_pager_resolve(pager, info->si_addr);

	(void)sig;
	(void)context;
	if (rc && rc != -EAGAIN)
		_exit(99);
}

#endif

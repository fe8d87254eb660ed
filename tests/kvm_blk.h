/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_blk.h - a virtual machine whose vCPUs run a driver of a virtio block device each (guest_blk.h), and a front-end
 * that gives its memory and rings to a back-end.
 *
 *	guest: ring, port -> vCPU's thread: eventfd -> back-end: requests, used ring -> guest
 */
#ifndef GM_TESTS_KVM_BLK_H
#define GM_TESTS_KVM_BLK_H

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <guestmem/vhost_device.h>

#include "guest_blk.h"
#include "one_guest.h"
#include "random.h"

#define FAR_GPA GIB(1) /* memory that comes and goes */
#define FAR_LEN MIB(2)
#define VERSION_1 (UINT64_C(1) << 32)
#define F_PACKED (UINT64_C(1) << 34)
#define IMAGE_LEN (2u * BLK_WAYS * BLK_EACH)

extern const unsigned char payload_blob[];
extern const size_t payload_blob_len;

struct vcpu {
	pthread_t thread;
	unsigned int cpu;
	int kick;
	uint64_t kicked;    /* exits by its kicks */
	bool freeze;        /* atomic: it is to leave as if nothing had happened */
	bool ended;         /* atomic */
	const char *failed; /* before @ended */
	uint32_t exit;
};

static struct vcpu vcpus[GUEST_CPUS];
static struct gm_vhost_frontend *fe;
static bool packed;

/* ---- where a driver has what ---- */

static inline uint64_t base_at(unsigned int cpu)
{
	return MIB(2) + cpu * MIB(4);
}

static inline struct guest_blk *blk_of(unsigned int cpu)
{
	return (struct guest_blk *)(void *)(guest.system + GUEST_PARAMS + 0x1000u * cpu);
}

/* As drivers and devices begin: no ring has anything in it. */
static inline void prepare_driver(unsigned int cpu, uint32_t flags, uint64_t count)
{
	struct guest_blk *b = blk_of(cpu);
	uint64_t base = base_at(cpu);

	memset(b, 0, sizeof(*b));
	memset(guest.system + base, 0, KIB(64));
	*b = (struct guest_blk){.desc = base,
		.avail = base + KIB(16),
		.used = base + KIB(32),
		.heads = base + KIB(64),
		.status = base + KIB(128),
		.buffers = base + MIB(1),
		.count = count,
		.seed = test_seed(cpu + 17) | 1,
		.nr = packed ? 200 : 256, /* a packed ring's length is no power of two */
		.flags = flags | (packed ? BLK_PACKED : 0),
		.ways = BLK_WAYS,
		.queue = cpu,
		.avail_wrap = 1,
		.used_wrap = 1};
}

/* ---- the disk ---- */

/* What the sectors of a way hold. */
static inline void expect_way(int fd, unsigned int queue, uint32_t way, uint32_t version)
{
	uint64_t bytes[BLK_EACH / 8];

	assert_int_equal(
		pread(fd, bytes, BLK_EACH, (off_t)blk_sector(queue, way) * BLK_SECTOR), BLK_EACH);
	for (uint32_t i = 0; i < BLK_EACH / 8; i++) {
		if (bytes[i] != blk_word(queue, way, version, 8u * i))
			fail_msg("queue %u, way %u, byte %u of the file: 0x%llx, not version %u",
				queue, way, 8 * i, (unsigned long long)bytes[i], version);
	}
}

static inline void fill_image(int fd)
{
	for (uint32_t way = 0; way < 2 * BLK_WAYS; way++) {
		uint64_t bytes[BLK_EACH / 8];

		for (uint32_t i = 0; i < BLK_EACH / 8; i++)
			bytes[i] = blk_word(0, way, 0, 8u * i);
		assert_int_equal(pwrite(fd, bytes, BLK_EACH, (off_t)way * BLK_EACH), BLK_EACH);
	}
	assert_int_equal(lseek(fd, 0, SEEK_END), IMAGE_LEN);
}

/* All that drivers have written, and nothing else. */
static inline void check_image(int fd, unsigned int queues)
{
	for (unsigned int queue = 0; queue < 2; queue++) {
		for (uint32_t way = 0; way < BLK_WAYS; way++)
			expect_way(fd, queue, way,
				queue < queues ? blk_of(queue)->line[way].version : 0);
	}
}

/* ---- vCPUs ---- */

static inline void moment(void)
{
	const struct timespec moment = {.tv_nsec = 100000};

	nanosleep(&moment, NULL);
}

/* False: it is to leave. */
static inline bool serve_port(struct vcpu *v)
{
	const struct kvm_run *run = guest.cpus[v->cpu].run;
	const uint64_t one = 1;

	switch (run->io.port) {
	case GUEST_BLK_KICK:
		v->kicked++;
		if (write(v->kick, &one, sizeof(one)) != sizeof(one))
			v->failed = "kick";
		return !v->failed && !__atomic_load_n(&v->freeze, __ATOMIC_ACQUIRE);
	case GUEST_BLK_YIELD:
		moment();
		return !__atomic_load_n(&v->freeze, __ATOMIC_ACQUIRE);
	case GUEST_BLK_DONE:
		return false;
	default:
		v->failed = "port";
		return false;
	}
}

static inline void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	bool goes = true;

	while (goes) {
		int rc = guest_run(&guest, v->cpu);

		if (rc == KVM_EXIT_IO) {
			goes = serve_port(v);
		} else {
			v->exit = (uint32_t)rc;
			v->failed = "exit";
			goes = false;
		}
	}
	__atomic_store_n(&v->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline void resume_vcpu(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];

	v->freeze = false;
	v->ended = false;
	v->failed = NULL;
	v->cpu = cpu;
	assert_int_equal(pthread_create(&v->thread, NULL, run_vcpu, v), 0);
}

/* The driver begins; its rings and requests are as they were left. */
static inline void start_driver(unsigned int cpu)
{
	blk_of(cpu)->stop = 0;
	guest_begin(&guest, cpu, GUEST_BLK_AT, GUEST_PARAMS + 0x1000u * cpu,
		0x48000u + 0x8000u * cpu - 8);
	vcpus[cpu].kicked = 0;
	resume_vcpu(cpu);
}

static inline void check_driver(unsigned int cpu);
/* It is stopped where it is; what it had in its registers. */
static inline struct kvm_regs freeze_driver(unsigned int cpu)
{
	struct kvm_run *run = guest.cpus[cpu].run;
	struct kvm_regs regs;

	__atomic_store_n(&vcpus[cpu].freeze, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(vcpus[cpu].thread, NULL), 0);
	check_driver(cpu);
	/* The instruction that made it leave is ended. */
	run->immediate_exit = 1;
	assert_int_equal(ioctl(guest.cpus[cpu].fd, KVM_RUN, 0UL), -1);
	run->immediate_exit = 0;
	assert_int_equal(ioctl(guest.cpus[cpu].fd, KVM_GET_REGS, &regs), 0);
	return regs;
}

static inline void check_driver(unsigned int cpu)
{
	const struct vcpu *v = &vcpus[cpu];
	const struct guest_blk *b = blk_of(cpu);
	uint32_t what = __atomic_load_n(&b->what, __ATOMIC_ACQUIRE);

	if (what)
		fail_msg("vCPU %u: %u at way %u, byte %llu: found 0x%llx, wanted 0x%llx, done %llu",
			cpu, what, b->way, (unsigned long long)b->off, (unsigned long long)b->found,
			(unsigned long long)b->wanted, (unsigned long long)b->done);
	if (__atomic_load_n(&v->ended, __ATOMIC_ACQUIRE) && v->failed)
		fail_msg("vCPU %u: %s: %u", cpu, v->failed, v->exit);
}

static inline void join_driver(unsigned int cpu)
{
	assert_int_equal(pthread_join(vcpus[cpu].thread, NULL), 0);
	check_driver(cpu);
}

static inline uint64_t done_by(unsigned int cpu)
{
	return __atomic_load_n(&blk_of(cpu)->done, __ATOMIC_ACQUIRE);
}

/* Until it has done so many. */
static inline void await_driver(unsigned int cpu, uint64_t done)
{
	while (done_by(cpu) < done) {
		check_driver(cpu);
		if (__atomic_load_n(&vcpus[cpu].ended, __ATOMIC_ACQUIRE) && done_by(cpu) < done)
			fail_msg("vCPU %u has ended after %llu requests", cpu,
				(unsigned long long)done_by(cpu));
		moment();
	}
}

static inline void stop_driver(unsigned int cpu)
{
	__atomic_store_n(&blk_of(cpu)->stop, 1, __ATOMIC_RELEASE);
	join_driver(cpu);
	assert_int_equal(blk_of(cpu)->out, 0);
}

/* ---- the machine ---- */

/* Its memory is empty. */
static inline void start_empty_machine(unsigned int cpus, const struct gm_block_opts *memory)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4)));
	assert_ok(gm_space_add(space, DESC(.gpa = 0, .backing = memory), &ram, &err));
	guest_open(&guest);
	guest.system = region(ram).hva;
	assert_ok(gm_kvm_create(space, KVM_OPTS(.flags = 0), &kvm, &err));
	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		guest_add_cpu(&guest, kvm);
		vcpus[cpu].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(vcpus[cpu].kick >= 0);
	}
}

static inline void start_machine(unsigned int cpus, const struct gm_block_opts *memory)
{
	start_empty_machine(cpus, memory);
	guest_load(&guest, guest.system);
	memcpy(guest.system + GUEST_BLK_AT, payload_blob, payload_blob_len);
}

static inline void stop_machine(void)
{
	for (unsigned int cpu = 0; cpu < guest.nr_cpus; cpu++)
		close(vcpus[cpu].kick);
	stop_guest();
}

static inline struct gm_vhost_frontend_ring ring_of(unsigned int cpu)
{
	const struct guest_blk *b = blk_of(cpu);

	return (struct gm_vhost_frontend_ring){.size = sizeof(struct gm_vhost_frontend_ring),
		.num = b->nr,
		.flags = GM_VHOST_FRONTEND_RING_LOG,
		.desc = b->desc,
		.avail = b->avail,
		.used = b->used,
		.base = packed ? 0x80008000u : 0,
		.kick = vcpus[cpu].kick,
		.call = -1,
		.error = -1,
		.log = b->used};
}

static inline void connect_frontend(const char *path, uint64_t protocol)
{
	uint64_t features = VERSION_1 | (packed ? F_PACKED : 0);

	assert_ok(gm_vhost_frontend_create(
		GM_OPTS(gm_vhost_frontend_opts, .path = path, .rings = guest.nr_cpus,
			.features = features, .needed = features, .protocol = protocol,
			.timeout_ms = 30000),
		&fe, &err));
}

static inline void start_rings(void)
{
	for (unsigned int cpu = 0; cpu < guest.nr_cpus; cpu++) {
		const struct gm_vhost_frontend_ring ring = ring_of(cpu);

		assert_ok(gm_vhost_frontend_ring_start(fe, cpu, &ring, &err));
	}
}

#endif

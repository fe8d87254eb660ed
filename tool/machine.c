/* SPDX-License-Identifier: BSD-3-Clause */
/* machine.c - the machine as a whole: made, started, stopped, moved into another one, unmade. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "machine_tables.h"
#include "tool.h"
#include "vcpu_state.h"

#define GIB (UINT64_C(1) << 30)
#define PAGE UINT64_C(4096)
#define KICK SIGUSR1
#define CPUID_MAX 256u

static bool say(const char *what)
{
	tool_error("run: %s: %s", what, strerror(errno));
	return false;
}

uint64_t machine_params_gpa(uint32_t vcpu)
{
	return MACHINE_VCPU_AREA + vcpu * MACHINE_VCPU_STRIDE;
}

bool machine_available(char *why, size_t cap)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0) {
		snprintf(why, cap, "/dev/kvm: %s", strerror(errno));
		return false;
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	why[0] = '\0';
	if (version != KVM_API_VERSION) {
		snprintf(why, cap, "/dev/kvm: speaks version %d of the interface, not %d", version,
			KVM_API_VERSION);
	} else if (ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0) {
		snprintf(why, cap, "/dev/kvm: is too old");
	} else {
		int vm_fd = ioctl(fd, KVM_CREATE_VM, 0);

		if (vm_fd < 0)
			snprintf(why, cap, "KVM_CREATE_VM: %s", strerror(errno));
		else
			close(vm_fd);
	}
	close(fd);
	return !why[0];
}

/* ---- the virtual machine ---- */

static bool get_cpuid(struct machine *m)
{
	struct kvm_cpuid2 *cpuid =
		tool_alloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(cpuid->entries[0]));

	m->cpuid = cpuid;
	cpuid->nent = CPUID_MAX;
	if (ioctl(m->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return say("KVM_GET_SUPPORTED_CPUID");
	m->phys_bits = 36;
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 0x80000008)
			m->phys_bits = cpuid->entries[i].eax & 0xff;
	}
	return true;
}

static bool open_kvm(struct machine *m)
{
	int most;

	m->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm_fd < 0)
		return say("/dev/kvm");
	most = ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (most > 0 && m->opts.nr_vcpus > (uint32_t)most) {
		tool_error("--vcpus: KVM has at most %d", most);
		return false;
	}
	return get_cpuid(m);
}

static bool make_vm(struct machine *m)
{
	m->vm_fd = ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
	if (m->vm_fd < 0)
		return say("KVM_CREATE_VM");
	if (!machine_slots_init(m))
		return false;
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++) {
		if (!machine_vcpu_init(m, i))
			return false;
	}
	return true;
}

static void unmake_vm(struct machine *m)
{
	for (uint32_t i = 0; m->vcpus && i < m->opts.nr_vcpus; i++)
		machine_vcpu_fini(&m->vcpus[i]);
	machine_slots_fini(m);
	if (m->vm_fd >= 0)
		close(m->vm_fd);
	m->vm_fd = -1;
}

/* ---- the guest's addresses ---- */

struct range {
	uint64_t first;
	uint64_t len;
	uint32_t leaf_log2;
};

#define NR_RANGES 4

/* The first page is left out: nothing is at address 0. */
static uint32_t list_ranges(const struct machine *m, struct range ranges[NR_RANGES])
{
	const struct run_memory *memory = m->memory;
	uint32_t nr = 0;

	ranges[nr++] = (struct range){PAGE, RUN_LOW_LEN - PAGE, 12};
	ranges[nr++] = (struct range){memory->gpa, memory->len, m->opts.guest_log2};
	if (memory->data_len)
		ranges[nr++] =
			(struct range){memory->data_gpa, memory->data_len, m->opts.guest_log2};
	ranges[nr++] = (struct range){
		m->mailbox_gpa, RUN_MAILBOX_LEN + (m->opts.control ? RUN_CONTROL_LEN : 0), 12};
	return nr;
}

static bool lay_out(struct machine *m)
{
	struct range ranges[NR_RANGES];
	uint32_t nr;

	m->tables_gpa = m->memory->free_gpa;
	nr = list_ranges(m, ranges);
	m->tables_room = PAGE;
	for (uint32_t i = 0; i < nr; i++)
		m->tables_room +=
			machine_tables_bound(ranges[i].first, ranges[i].len, ranges[i].leaf_log2);
	/* The mailbox itself, whose address comes of it. */
	m->tables_room += 4 * PAGE;
	m->mailbox_gpa = (m->tables_gpa + m->tables_room + GIB - 1) / GIB * GIB;
	if ((m->mailbox_gpa + GIB - 1) >> m->phys_bits == 0) {
		if (!m->memory->taken)
			return run_memory_add(
				m->memory, m->tables_gpa, m->tables_room, "run-tables");
		if (m->memory->tables_len == m->tables_room)
			return true;
		tool_error("run: the page tables that came are none of this guest's");
		return false;
	}
	tool_error("--size: a guest of this KVM has %u bits of addresses, that is too much",
		m->phys_bits);
	return false;
}

static bool make_tables(struct machine *m)
{
	struct machine_tables t = {.next = m->tables_gpa, .end = m->tables_gpa + m->tables_room};
	struct range ranges[NR_RANGES];
	uint32_t nr = list_ranges(m, ranges);
	int rc = 0;

	t.view = gm_reader_enter(m->memory->reader);
	for (uint32_t i = 0; rc == 0 && i < nr; i++)
		rc = machine_tables_map(&t, ranges[i].first, ranges[i].len, ranges[i].leaf_log2);
	gm_reader_leave(m->memory->reader);
	m->root = t.root;
	m->tables_used = t.next - m->tables_gpa;
	if (rc < 0)
		tool_error("run: page tables: %s", strerror(-rc));
	return rc == 0;
}

/* ---- all of it ---- */

static void do_nothing(int signo)
{
	(void)signo;
}

/* The signal that makes KVM_RUN return. */
static bool install_kick(struct machine *m)
{
	struct sigaction kick = {.sa_handler = do_nothing};

	m->kick_installed = sigaction(KICK, &kick, &m->old_kick) == 0;
	if (m->kick_installed)
		machine_lost_begin();
	return m->kick_installed || say("sigaction");
}

static bool fill_low(struct machine *m)
{
	if (m->memory->taken)
		return true;
	if (m->opts.restored)
		return run_memory_add(m->memory, 0, RUN_LOW_LEN, "run-low");
	return machine_low_fill(m) && machine_program_load(m) && make_tables(m);
}

bool machine_init(struct machine *m, struct run_memory *memory, const struct machine_opts *opts)
{
	*m = (struct machine){
		.memory = memory, .opts = *opts, .kvm_fd = -1, .vm_fd = -1, .event = -1};
	m->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->event < 0)
		return say("eventfd");
	m->vcpus = tool_alloc(opts->nr_vcpus, sizeof(*m->vcpus));
	if (!install_kick(m) || !open_kvm(m) || !lay_out(m) || !fill_low(m) ||
		!machine_devices_init(m) || !make_vm(m))
		return false;
	for (uint32_t i = 0; i < opts->nr_vcpus; i++) {
		if (!machine_vcpu_reset(&m->vcpus[i]))
			return false;
	}
	return true;
}

void machine_fini(struct machine *m)
{
	unmake_vm(m);
	machine_devices_fini(m);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	if (m->event >= 0)
		close(m->event);
	if (m->kick_installed) {
		machine_lost_end();
		sigaction(KICK, &m->old_kick, NULL);
	}
	free(m->vcpus);
	free(m->cpuid);
	*m = (struct machine){.kvm_fd = -1, .vm_fd = -1, .event = -1};
}

static void *vcpu_thread(void *arg)
{
	static const uint64_t one = 1;
	struct machine_vcpu *vcpu = arg;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	machine_vcpu_run(vcpu);
	/* It can only fail if 2^64 - 1 vCPUs have ended. */
	if (write(vcpu->machine->event, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

bool machine_start(struct machine *m)
{
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++) {
		struct machine_vcpu *vcpu = &m->vcpus[i];
		int error;

		if (vcpu->end != MACHINE_RUNS)
			continue;
		error = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
		if (error) {
			errno = error;
			machine_stop(m);
			return say("a thread for a vCPU");
		}
		vcpu->started = true;
	}
	return true;
}

/* A signal that comes before KVM_RUN is not lost: that looks at immediate_exit. */
void machine_stop(struct machine *m)
{
	for (uint32_t i = 0; m->vcpus && i < m->opts.nr_vcpus; i++) {
		if (!m->vcpus[i].started)
			continue;
		__atomic_store_n(&m->vcpus[i].run->immediate_exit, 1, __ATOMIC_RELEASE);
		pthread_kill(m->vcpus[i].thread, KICK);
	}
	for (uint32_t i = 0; m->vcpus && i < m->opts.nr_vcpus; i++) {
		if (!m->vcpus[i].started)
			continue;
		pthread_join(m->vcpus[i].thread, NULL);
		m->vcpus[i].started = false;
	}
}

bool machine_go_on(struct machine *m)
{
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++) {
		struct machine_vcpu *vcpu = &m->vcpus[i];

		if (vcpu->end != MACHINE_STOPPED)
			continue;
		vcpu->end = MACHINE_RUNS;
		vcpu->run->immediate_exit = 0;
	}
	return machine_start(m);
}

void machine_throttle(struct machine *m, uint32_t percent)
{
	__atomic_store_n(&m->throttle, percent < 99 ? percent : 99, __ATOMIC_RELAXED);
}

int machine_throttle_tick(struct machine *m)
{
	uint64_t now = (uint64_t)(tool_now() * 1e9);

	if (!__atomic_load_n(&m->throttle, __ATOMIC_RELAXED))
		return -1;
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++) {
		uint64_t awake = __atomic_load_n(&m->vcpus[i].awake, __ATOMIC_RELAXED);

		if (m->vcpus[i].started && now > awake && now - awake >= MACHINE_AWAKE_NS)
			pthread_kill(m->vcpus[i].thread, KICK);
	}
	return 5;
}

bool machine_all_stopped(const struct machine *m)
{
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++) {
		if (__atomic_load_n(&m->vcpus[i].end, __ATOMIC_ACQUIRE) == MACHINE_RUNS)
			return false;
	}
	return true;
}

double machine_ticks_per_second(const struct machine *m)
{
	int khz = ioctl(m->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

	return khz > 0 ? khz * 1000.0 : 0;
}

/* ---- moving ---- */

/* What a vCPU was, beside its state. */
struct moved {
	struct machine_vcpu was;
	uint8_t *bytes;
	size_t len;
};

static bool state_failed(uint32_t vcpu, const struct vcpu_error *err)
{
	tool_error("run: vCPU %u: %s: %s%s", vcpu, err->what, strerror(err->error),
		err->detail ? " (an MSR)" : "");
	return false;
}

static bool save_vcpu(const struct machine *m, uint32_t i, struct moved *moved)
{
	struct vcpu_state *state = tool_alloc(1, sizeof(*state));
	struct vcpu_error err;
	bool well = vcpu_state_save(m->kvm_fd, m->vm_fd, m->vcpus[i].fd, state, &err);

	moved->was = m->vcpus[i];
	if (well) {
		moved->len = vcpu_state_len(state);
		moved->bytes = tool_alloc(1, moved->len);
		vcpu_state_encode(state, moved->bytes);
	} else {
		state_failed(i, &err);
	}
	free(state);
	return well;
}

static bool restore_vcpu(struct machine *m, uint32_t i, const struct moved *moved)
{
	struct vcpu_state *state = tool_alloc(1, sizeof(*state));
	struct machine_vcpu *vcpu = &m->vcpus[i];
	const char *why = vcpu_state_decode(moved->bytes, moved->len, state);
	struct vcpu_error err;
	bool well = !why && vcpu_state_restore(vcpu->fd, state, &err);

	if (why)
		tool_error("run: vCPU %u: what was saved %s", i, why);
	else if (!well)
		state_failed(i, &err);
	free(state);
	vcpu->end = moved->was.end == MACHINE_STOPPED ? MACHINE_RUNS : moved->was.end;
	vcpu->status = moved->was.status;
	vcpu->exits_io = moved->was.exits_io;
	vcpu->exits_mmio = moved->was.exits_mmio;
	memcpy(vcpu->why, moved->was.why, sizeof(vcpu->why));
	return well;
}

bool machine_move(struct machine *m)
{
	struct moved *moved = tool_alloc(m->opts.nr_vcpus, sizeof(*moved));
	bool well = true;

	for (uint32_t i = 0; well && i < m->opts.nr_vcpus; i++)
		well = save_vcpu(m, i, &moved[i]);
	if (well) {
		unmake_vm(m);
		well = make_vm(m);
	}
	for (uint32_t i = 0; well && i < m->opts.nr_vcpus; i++)
		well = restore_vcpu(m, i, &moved[i]);
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++)
		free(moved[i].bytes);
	free(moved);
	return well;
}

bool machine_save(const struct machine *m, uint32_t vcpu, struct machine_saved *ret)
{
	struct moved moved = {.bytes = NULL};

	if (!save_vcpu(m, vcpu, &moved))
		return false;
	*ret = (struct machine_saved){moved.bytes, moved.len, moved.was.end, moved.was.status};
	return true;
}

bool machine_restore(struct machine *m, uint32_t vcpu, const struct machine_saved *saved)
{
	struct moved moved = {.bytes = saved->bytes, .len = saved->len};

	moved.was.end = saved->end;
	moved.was.status = saved->status;
	return restore_vcpu(m, vcpu, &moved);
}

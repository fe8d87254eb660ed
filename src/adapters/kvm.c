/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm.c - see kvm.h: the listener, and life.
 *
 * What a commit may bring is noted when it is asked about. Anything else that is given is given back, after a refusal
 * of whoever it was, and must be taken.
 */
#include "adapters/kvm.h"

#include <errno.h>
#include <guestmem/part.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "memory/listener.h"
#include "sys/sys.h"
#include "sys/uapi_kvm.h"

#define SLOT_PAGES_MAX ((UINT64_C(1) << 31) - 1)

/* ---- a section as a slot ---- */

static bool takes_slot(const struct gm_section *section)
{
	if (section->part == GM_PART_PRIVATE)
		return true;
	return section->hva && (section->perms & GM_PERM_R);
}

static int32_t fd_of(const struct gm_block *block)
{
	struct gm_block_info info = {.size = sizeof(info)};

	return gm_block_info(block, &info) ? -1 : info.fd;
}

static uint64_t fd_offset(const struct gm_block *block)
{
	struct gm_block_info info = {.size = sizeof(info)};

	return gm_block_info(block, &info) ? 0 : info.offset;
}

static uint32_t flags_of(const struct gm_section *section)
{
	uint32_t flags = 0;

	if (!(section->perms & GM_PERM_W) || section->kind == GM_REGION_ROMD)
		flags |= KVM_MEM_READONLY;
	if (section->private_block)
		flags |= KVM_MEM_GUEST_MEMFD;
	return flags;
}

static struct slot slot_of(const struct gm_section *section)
{
	struct slot slot = {
		.gpa = section->gpa,
		.len = section->len,
		.hva = (uintptr_t)section->hva,
		.memfd = -1,
		.flags = flags_of(section),
	};

	if (section->private_block) {
		slot.memfd = fd_of(section->private_block);
		slot.memfd_off = fd_offset(section->private_block) + section->private_off;
	}
	return slot;
}

/* ---- what is coming ---- */

static int by_address(const void *a, const void *b)
{
	const struct coming *x = a;
	const struct coming *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/* May it be refused? What is given back may not. */
static bool may_refuse(const struct gm_kvm *kvm, const struct gm_section *section)
{
	struct coming key = {.gpa = section->gpa};
	const struct coming *found;

	if (kvm->backing_out || kvm->nr_coming == 0)
		return false;
	found = bsearch(&key, kvm->coming, kvm->nr_coming, sizeof(key), by_address);
	return found && found->len == section->len && found->id == section->id &&
	       found->hva == section->hva && found->perms == section->perms &&
	       found->block == section->block && found->block_off == section->block_off;
}

static void forget_coming(struct gm_kvm *kvm)
{
	gm_sys_free(kvm->coming);
	kvm->coming = NULL;
	kvm->nr_coming = 0;
	kvm->backing_out = false;
}

static int check_section(
	const struct gm_kvm *kvm, const struct gm_section *section, struct gm_error *err)
{
	uint32_t flags = flags_of(section);

	if ((flags & KVM_MEM_READONLY) && !(kvm->caps & GM_KVM_CAP_READONLY))
		return gm_error_set(err, -ENOTSUP, section->gpa, section->len,
			"kvm: gpa 0x%" PRIx64
			" is not writable, and this virtual machine has no read-only slots",
			section->gpa);
	if ((flags & KVM_MEM_GUEST_MEMFD) &&
		(!(kvm->caps & GM_KVM_CAP_GUEST_MEMFD) || fd_of(section->private_block) < 0))
		return gm_error_set(err, -ENOTSUP, section->gpa, section->len,
			"kvm: gpa 0x%" PRIx64 " has private memory, %s", section->gpa,
			kvm->caps & GM_KVM_CAP_GUEST_MEMFD
				? "which is no file"
				: "and this virtual machine knows no guest_memfd");
	if (section->len == 0 || (section->len - 1) >> kvm->page_shift >= SLOT_PAGES_MAX)
		return gm_error_set(err, -EFBIG, section->gpa, section->len,
			"kvm: gpa 0x%" PRIx64 ", %" PRIu64
			" bytes: a slot has at most 2^31 - 1 pages; make several regions",
			section->gpa, section->len);
	return 0;
}

/* ---- asking ---- */

static void note(struct gm_kvm *kvm, const struct gm_section *section)
{
	kvm->coming[kvm->nr_coming++] = (struct coming){
		.gpa = section->gpa,
		.len = section->len,
		.id = section->id,
		.hva = section->hva,
		.block = section->block,
		.block_off = section->block_off,
		.perms = section->perms,
	};
}

/* Slots that go and come; notes what comes. */
static int count(struct gm_kvm *kvm, const struct gm_change *changes, size_t nr, uint64_t *go,
	uint64_t *come, struct gm_error *err)
{
	for (size_t i = 0; i < nr; i++) {
		const struct gm_section *section = &changes[i].section;
		struct gm_section before = *section;
		bool comes = changes[i].kind != GM_CHANGE_REMOVE && takes_slot(section);
		int rc = comes ? check_section(kvm, section, err) : 0;

		if (rc)
			return rc;
		if (changes[i].kind != GM_CHANGE_REMOVE)
			note(kvm, section);
		if (changes[i].kind == GM_CHANGE_PERMS)
			before.perms = changes[i].perms;
		*come += comes;
		*go += changes[i].kind != GM_CHANGE_ADD && takes_slot(&before);
	}
	return 0;
}

static int prepare(struct gm_kvm *kvm, const struct gm_change *changes, size_t nr, uint64_t *ret_go,
	struct gm_error *err)
{
	uint64_t used = (uint64_t)kvm->nr + kvm->nr_stale;
	uint64_t go = 0;
	uint64_t come = 0;
	int rc;

	kvm->coming = gm_sys_alloc_array(nr, sizeof(*kvm->coming));
	if (!kvm->coming)
		return gm_error_set(err, -ENOMEM, 0, 0, "kvm: out of memory");
	rc = count(kvm, changes, nr, &go, &come, err);
	if (rc)
		return rc;
	if (come > kvm->limit - (used - go))
		return gm_error_set(err, -ENOSPC, 0, 0,
			"kvm: %" PRIu64 " slots would be needed, of which there are %u",
			used - go + come, kvm->limit);
	/* What goes may have to be given back beside what KVM does not let go. */
	if (!gm_kvm_slots_reserve(kvm, (uint32_t)(go + come)))
		return gm_error_set(err, -ENOMEM, 0, 0, "kvm: out of memory");
	*ret_go = go;
	return 0;
}

/* Without the lock: a vCPU that is to leave may be harvesting. */
static int pause_vcpus(struct gm_kvm *kvm, struct gm_error *err)
{
	int rc = kvm->pause(kvm->ctx);

	pthread_mutex_lock(&kvm->lock);
	if (rc < 0)
		forget_coming(kvm);
	else
		kvm->paused = true;
	pthread_mutex_unlock(&kvm->lock);
	return rc < 0 ? gm_error_set(err, rc, 0, 0, "kvm: the vCPUs cannot be paused: %s",
				gm_error_word(rc))
		      : 0;
}

static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	struct gm_kvm *kvm = ctx;
	uint64_t go = 0;
	int rc;

	pthread_mutex_lock(&kvm->lock);
	gm_kvm_slots_mend(kvm);
	forget_coming(kvm);
	rc = prepare(kvm, changes, nr, &go, err);
	if (rc)
		forget_coming(kvm);
	pthread_mutex_unlock(&kvm->lock);
	return !rc && go && kvm->pause ? pause_vcpus(kvm, err) : rc;
}

/* ---- doing ---- */

static void on_remove(void *ctx, const struct gm_section *section)
{
	struct gm_kvm *kvm = ctx;

	pthread_mutex_lock(&kvm->lock);
	if (takes_slot(section))
		gm_kvm_slots_remove(kvm, section->gpa);
	else
		kvm->no_slot -= section->len;
	pthread_mutex_unlock(&kvm->lock);
}

static int add(struct gm_kvm *kvm, const struct gm_section *section, struct gm_error *err)
{
	struct slot slot = slot_of(section);
	int rc;

	if (!takes_slot(section)) {
		kvm->no_slot += section->len;
		return 0;
	}
	rc = gm_kvm_slots_add(kvm, &slot, !may_refuse(kvm, section), err);
	if (rc)
		kvm->backing_out = true;
	return rc;
}

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *err)
{
	struct gm_kvm *kvm = ctx;
	int rc;

	pthread_mutex_lock(&kvm->lock);
	rc = add(kvm, section, err);
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}

static int change(struct gm_kvm *kvm, const struct gm_section *section, uint32_t old_perms,
	struct gm_error *err)
{
	struct gm_section before = *section;
	int rc;

	before.perms = old_perms;
	if (!takes_slot(&before)) {
		if (!takes_slot(section))
			return 0;
		rc = add(kvm, section, err);
		if (!rc)
			kvm->no_slot -= section->len;
		return rc;
	}
	if (!takes_slot(section)) {
		gm_kvm_slots_remove(kvm, section->gpa);
		kvm->no_slot += section->len;
		return 0;
	}
	if (flags_of(section) == flags_of(&before))
		return 0;
	rc = gm_kvm_slots_change(
		kvm, section->gpa, flags_of(section), !may_refuse(kvm, section), err);
	if (rc)
		kvm->backing_out = true;
	return rc;
}

static int on_change(
	void *ctx, const struct gm_section *section, uint32_t old_perms, struct gm_error *err)
{
	struct gm_kvm *kvm = ctx;
	int rc;

	pthread_mutex_lock(&kvm->lock);
	rc = change(kvm, section, old_perms, err);
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}

static void on_end(struct gm_kvm *kvm)
{
	bool paused;

	pthread_mutex_lock(&kvm->lock);
	gm_kvm_slots_mend(kvm);
	forget_coming(kvm);
	paused = kvm->paused;
	kvm->paused = false;
	pthread_mutex_unlock(&kvm->lock);
	if (paused)
		kvm->resume(kvm->ctx);
}

static void on_commit(void *ctx, uint64_t generation)
{
	(void)generation;
	on_end(ctx);
}

static void on_abort(void *ctx)
{
	on_end(ctx);
}

/* ---- private pages ---- */

static int check_private(
	void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	const struct gm_kvm *kvm = ctx;

	for (size_t i = 0; i < nr; i++) {
		const struct gm_section *section = &changes[i].section;

		if (changes[i].kind == GM_CHANGE_ADD && section->part == GM_PART_PRIVATE &&
			!(kvm->caps & GM_KVM_CAP_PRIVATE))
			return gm_error_set(err, -ENOTSUP, section->gpa, section->len,
				"kvm: gpa 0x%" PRIx64
				" is to be private, which this virtual machine does not know",
				section->gpa);
	}
	return 0;
}

static int add_private(void *ctx, const struct gm_section *section, struct gm_error *err)
{
	const struct gm_kvm *kvm = ctx;
	int rc;

	if (section->part != GM_PART_PRIVATE)
		return 0;
	rc = gm_sys_kvm_set_attributes(
		kvm->vm, section->gpa, section->len, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	if (rc < 0)
		return gm_error_set(err, rc, section->gpa, section->len,
			"kvm: gpa 0x%" PRIx64 ", %" PRIu64 " bytes cannot be made private: %s",
			section->gpa, section->len, gm_error_word(rc));
	return 0;
}

/* If KVM refuses, the guest's accesses exit, as they do when it has not been told. */
static void remove_private(void *ctx, const struct gm_section *section)
{
	const struct gm_kvm *kvm = ctx;

	if (section->part == GM_PART_PRIVATE)
		gm_sys_kvm_set_attributes(kvm->vm, section->gpa, section->len, 0);
}

/* ---- life ---- */

static int check_opts(
	const struct gm_kvm_opts *user, struct gm_kvm_opts *opts, struct gm_error *err)
{
	int rc = gm_opts_copy(opts, sizeof(*opts), user, sizeof(*user));

	if (rc)
		return gm_opts_error(err, rc, "kvm");
	if (opts->flags & ~(GM_KVM_JOIN | GM_KVM_PARTS))
		return gm_error_set(err, -EINVAL, 0, 0, "kvm: unknown flags 0x%x", opts->flags);
	if (opts->ring_entries & (opts->ring_entries - 1))
		return gm_error_set(err, -EINVAL, 0, 0,
			"kvm: a ring has a power of two of entries, not %u", opts->ring_entries);
	if (!opts->pause != !opts->resume)
		return gm_error_set(
			err, -EINVAL, 0, 0, "kvm: pause and resume are given both or not at all");
	return 0;
}

/* What KVM says to a capability; 0 after an answer that is an error, which stays in @rc. */
static int ask(const struct gm_kvm *kvm, unsigned int cap, int *rc)
{
	int answer = *rc ? 0 : gm_sys_kvm_check(kvm->vm, cap);

	if (answer < 0)
		*rc = answer;
	return answer < 0 ? 0 : answer;
}

static int ask_caps(struct gm_kvm *kvm, struct gm_error *err)
{
	int rc = 0;
	int manual = ask(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, &rc);

	if (manual & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) {
		kvm->caps |= GM_KVM_CAP_MANUAL_CLEAR;
		if (manual & KVM_DIRTY_LOG_INITIALLY_SET)
			kvm->caps |= GM_KVM_CAP_INITIALLY_SET;
	}
	if (ask(kvm, KVM_CAP_READONLY_MEM, &rc))
		kvm->caps |= GM_KVM_CAP_READONLY;
	kvm->ring_cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
	if (!ask(kvm, kvm->ring_cap, &rc))
		kvm->ring_cap = KVM_CAP_DIRTY_LOG_RING;
	if (ask(kvm, kvm->ring_cap, &rc))
		kvm->caps |= GM_KVM_CAP_RING;
	if (ask(kvm, KVM_CAP_USER_MEMORY2, &rc) && ask(kvm, KVM_CAP_GUEST_MEMFD, &rc))
		kvm->caps |= GM_KVM_CAP_GUEST_MEMFD;
	if (ask(kvm, KVM_CAP_MEMORY_ATTRIBUTES, &rc) & (int)KVM_MEMORY_ATTRIBUTE_PRIVATE)
		kvm->caps |= GM_KVM_CAP_PRIVATE;
	if (ask(kvm, KVM_CAP_PRE_FAULT_MEMORY, &rc))
		kvm->caps |= GM_KVM_CAP_PREFAULT;
	return rc ? gm_error_set(err, rc, 0, 0, "kvm: it does not say what it can: %s",
			    gm_error_word(rc))
		  : 0;
}

static int ask_limit(struct gm_kvm *kvm, const struct gm_kvm_opts *opts, struct gm_error *err)
{
	int nr = gm_sys_kvm_check(kvm->vm, KVM_CAP_NR_MEMSLOTS);

	if (nr < 0)
		return gm_error_set(err, nr, 0, 0, "kvm: fd %d is no virtual machine: %s",
			opts->vm_fd, gm_error_word(nr));
	if (nr == 0)
		nr = 32; /* what there was before KVM could be asked */
	if (opts->first_slot >= (uint32_t)nr ||
		(opts->max_slots && opts->max_slots > (uint32_t)nr - opts->first_slot))
		return gm_error_set(err, -EINVAL, 0, 0,
			"kvm: slots %u to %u are wanted, KVM has %d", opts->first_slot,
			opts->first_slot + (opts->max_slots ? opts->max_slots - 1 : 0), nr);
	kvm->limit = opts->max_slots ? opts->max_slots : (uint32_t)nr - opts->first_slot;
	kvm->first_number = opts->first_slot | opts->address_space << 16;
	return 0;
}

/* How bitmaps are set and cleared is said here once, and for the moment of beginning in kvm_dirty.c. */
static int enable_logging(struct gm_kvm *kvm, struct gm_error *err)
{
	uint64_t len = kvm->ring_entries * sizeof(struct kvm_dirty_gfn);
	uint64_t manual = 0;
	int rc;

	if (kvm->ring_entries && !(kvm->caps & GM_KVM_CAP_RING))
		return gm_error_set(err, -ENOTSUP, 0, 0, "kvm: there are no dirty rings");
	if (!kvm->ring_entries && (kvm->caps & GM_KVM_CAP_MANUAL_CLEAR))
		manual |= KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	if (kvm->caps & GM_KVM_CAP_MANUAL_CLEAR) {
		rc = gm_sys_kvm_enable(kvm->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual);
		if (rc < 0)
			return gm_error_set(err, rc, 0, 0,
				"kvm: how bitmaps are cleared cannot be said: %s (is the fd "
				"/dev/kvm, and no virtual machine?)",
				gm_error_word(rc));
	}
	if (!kvm->ring_entries)
		return 0;
	rc = gm_sys_kvm_enable(kvm->vm, kvm->ring_cap, len);
	if (rc < 0)
		return gm_error_set(err, rc, 0, 0, "kvm: no dirty rings of %u entries: %s%s",
			kvm->ring_entries, gm_error_word(rc),
			rc == -EINVAL
				? " (there is a vCPU already, or rings; or the number is too small)"
			: rc == -E2BIG ? " (too many)"
				       : "");
	kvm->batch = gm_sys_alloc_array(GM_KVM_BATCH, sizeof(*kvm->batch));
	return kvm->batch ? 0 : gm_error_set(err, -ENOMEM, 0, 0, "kvm: out of memory");
}

static int attach(struct gm_kvm *kvm, struct gm_error *err)
{
	struct gm_listener_ops slots = {
		.size = sizeof(slots),
		.name = "kvm",
		.enforces = GM_PERM_R | GM_PERM_W,
		.join = kvm->flags & GM_KVM_JOIN ? GM_JOIN_HOST : GM_JOIN_NONE,
		.flags = kvm->flags & GM_KVM_PARTS ? GM_LISTENER_PARTS : 0,
		.prepare = on_prepare,
		.remove = on_remove,
		.add = on_add,
		.change = on_change,
		.commit = on_commit,
		.abort = on_abort,
		.ctx = kvm,
	};
	/* Told of private pages before their slot comes, and when it has gone. */
	struct gm_listener_ops privates = {
		.size = sizeof(privates),
		.name = "kvm private pages",
		.priority = -1,
		.enforces = GM_PERM_RWX,
		.flags = GM_LISTENER_PARTS,
		.prepare = check_private,
		.remove = remove_private,
		.add = add_private,
		.ctx = kvm,
	};
	int rc = gm_space_hold(kvm->space, err);

	/* Both or none, with no change between. */
	if (rc)
		return rc;
	rc = gm_listener_create_held(kvm->space, &privates, &kvm->privates, err);
	if (!rc) {
		rc = gm_listener_create_held(kvm->space, &slots, &kvm->listener, err);
		if (rc)
			gm_listener_drop_held(kvm->privates);
	}
	gm_space_release(kvm->space);
	return rc;
}

static int open_all(struct gm_kvm *kvm, const struct gm_kvm_opts *opts, struct gm_error *err)
{
	int rc;

	kvm->vm = gm_sys_dup(opts->vm_fd);
	if (kvm->vm < 0)
		return gm_error_set(
			err, kvm->vm, 0, 0, "kvm: fd %d: %s", opts->vm_fd, gm_error_word(kvm->vm));
	rc = ask_limit(kvm, opts, err);
	if (rc)
		return rc;
	rc = ask_caps(kvm, err);
	if (!rc)
		rc = enable_logging(kvm, err);
	if (!rc)
		rc = gm_reader_create(kvm->space, "kvm", &kvm->reader, err);
	return rc ? rc : attach(kvm, err);
}

static void free_kvm(struct gm_kvm *kvm)
{
	/* What KVM would not delete: once more. */
	gm_kvm_slots_mend(kvm);
	forget_coming(kvm);
	gm_kvm_rings_free(kvm);
	gm_kvm_slots_free(kvm);
	gm_sys_free(kvm->bits);
	gm_sys_free(kvm->batch);
	gm_reader_destroy(kvm->reader);
	if (kvm->vm >= 0)
		gm_sys_close(kvm->vm);
	pthread_mutex_destroy(&kvm->lock);
	gm_sys_free(kvm);
}

int gm_kvm_create(struct gm_space *space, const struct gm_kvm_opts *user, struct gm_kvm **ret_kvm,
	struct gm_error *err)
{
	struct gm_kvm_opts opts;
	struct gm_kvm *kvm;
	int rc = check_opts(user, &opts, err);

	if (rc)
		return rc;
	kvm = gm_sys_alloc(sizeof(*kvm));
	if (!kvm)
		return gm_error_set(err, -ENOMEM, 0, 0, "kvm: out of memory");
	kvm->space = space;
	kvm->vm = -1;
	kvm->flags = opts.flags;
	kvm->pause = opts.pause;
	kvm->resume = opts.resume;
	kvm->ctx = opts.ctx;
	kvm->ring_entries = opts.ring_entries;
	kvm->page_shift = (uint32_t)__builtin_ctzl(gm_sys_page_size());
	pthread_mutex_init(&kvm->lock, NULL);
	rc = open_all(kvm, &opts, err);
	if (rc) {
		free_kvm(kvm);
		return rc;
	}
	*ret_kvm = kvm;
	return 0;
}

int gm_kvm_destroy(struct gm_kvm *kvm, struct gm_error *err)
{
	int rc;

	if (!kvm)
		return 0;
	rc = gm_space_hold(kvm->space, err);
	if (rc)
		return rc;
	gm_listener_drop_held(kvm->listener);
	gm_listener_drop_held(kvm->privates);
	gm_space_release(kvm->space);
	free_kvm(kvm);
	return 0;
}

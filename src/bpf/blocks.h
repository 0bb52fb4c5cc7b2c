/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tallies of block devices share: the cgroup of a bio. Include it behind
 * ktally.bpf.h.
 */
#ifndef KTALLY_BLOCKS_H
#define KTALLY_BLOCKS_H

/*
 * The cgroup that wrote the data: the task that writes it back may be in
 * another one. NULL if it is the current task's. A bio has only cgroups with an
 * io controller: if it has one above the current one, the current one is meant.
 */
static __always_inline struct cgroup *bio_cgroup(struct bio *bio)
{
	struct cgroup *group;

	if (!bpf_core_field_exists(bio->bi_blkg) || !bio->bi_blkg)
		return NULL;
	group = bio->bi_blkg->blkcg->css.cgroup;
	/* Zero is the unified hierarchy. */
	if (group->root->hierarchy_id || __tally_in_cgroup(group->kn->id))
		return NULL;
	return group;
}

#endif /* KTALLY_BLOCKS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tallies of block devices share: whose a bio is. Include it behind
 * ktally.bpf.h.
 */
#ifndef KTALLY_BLOCKS_H
#define KTALLY_BLOCKS_H

/*
 * Who writes back is not who wrote: a bio knows its cgroup. But it knows only
 * of cgroups with an io controller: of one above, the current one is meant.
 * NULL stands for the current one.
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

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: pages that the page cache adds, removes or marks dirty, for the task
 * that runs: kswapd, where it evicts.
 * Not seen: reads of cached pages, writes to dirty pages, direct I/O, DAX.
 * Cost: up to 1 us a folio (before 5.16: a page).
 */
#include "ktally.bpf.h"

TALLY("pages that enter, leave and change in the file cache, but for tmpfs",
      "cachestat cachetop");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

struct user {
	struct tally_who;
	dev_t dev AS(dev);
	__u32 padding HIDDEN;
};

struct pages {
	__u64 added COUNTER("pages that were put into the cache");
	__u64 evicted COUNTER("pages that were taken out");
	__u64 dirtied COUNTER("clean pages that were changed");
};

TABLE(filecache, struct user, struct pages, 8192, "pages of the file cache")
OVERVIEW(50, "dirtied pages", dirtied);

/* A file's filesystem is on a device; a device's own pages are that device. */
static __always_inline dev_t device(struct inode *inode)
{
	dev_t own = BPF_CORE_READ(inode, i_rdev);

	return own ?: BPF_CORE_READ(inode, i_sb, s_dev);
}

/*
 * The files of tmpfs, and shared memory, are their pages: these are no cache of
 * anything, and the kernel tells only of those that go.
 */
static __always_inline bool is_memory(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_sb, s_magic) == TMPFS_MAGIC;
}

static __always_inline struct pages *row(struct folio *folio)
{
	struct inode *inode = BPF_CORE_READ(folio_mapping(folio), host);
	struct user key = {};

	if (!wanted_cpu() || !wanted_task() || is_memory(inode))
		return NULL;
	key.dev = device(inode);
	current_who(&key);
	return tally_entry(filecache, &key);
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(added, struct folio *folio)
{
	struct pages *pages = row(folio);

	if (pages)
		__sync_fetch_and_add(&pages->added, folio_pages(folio));
	return 0;
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(evicted, struct folio *folio)
{
	struct pages *pages = row(folio);

	if (pages)
		__sync_fetch_and_add(&pages->evicted, folio_pages(folio));
	return 0;
}

static __always_inline int dirty(struct folio *folio)
{
	struct pages *pages = row(folio);

	if (pages)
		__sync_fetch_and_add(&pages->dirtied, folio_pages(folio));
	return 0;
}

SEC("tp_btf/writeback_dirty_folio")
ALTERNATIVE(dirtied)
int BPF_PROG(dirtied, struct folio *folio)
{
	return dirty(folio);
}

/*
 * Its name before 5.16: b9b0ff61eef5 ("mm/writeback: Convert tracing
 * writeback_page_template to folios").
 */
SEC("tp_btf/writeback_dirty_page")
ALTERNATIVE(dirtied)
int BPF_PROG(dirtied_page, struct folio *page)
{
	return dirty(page);
}

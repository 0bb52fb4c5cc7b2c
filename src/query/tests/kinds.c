/* Types of every kind that expressions meet. */
typedef unsigned char u8;
typedef unsigned short __u16;
typedef __u16 __be16;
typedef unsigned int u32, __u32;
typedef u32 __be32;
typedef unsigned long long u64;
typedef u32 dev_t;
typedef unsigned int gfp_t;
typedef int pid_t;
typedef _Bool bool;
typedef struct { unsigned int val; } kuid_t;
typedef struct { int counter; } atomic_t;
typedef struct refcount { atomic_t refs; } refcount_t;

enum state { STATE_IDLE, STATE_BUSY = 5, STATE_LOST = -1 };
enum wide { WIDE_ONE = 1ULL << 40 };
enum reason { REASON_NONE, REASON_FULL };

struct unknown;
struct in6_addr { union { u8 bytes[16]; u32 words[4]; } in6_u; };
struct name { u64 hash; const unsigned char *text; };
struct pt_regs { unsigned long r10, di, si, dx, r8, r9; };

struct parent {
	int pad;
	struct parent *up;
	char comm[16];
	struct name name;
};

struct thing {
	char comm[16];			/* 0 */
	int number;			/* 16 */
	const volatile long *const pointer; /* 24 */
	struct parent *parent;		/* 32 */
	union {				/* 40 */
		u64 both;
		struct {
			u32 low;
			union { u32 high; __be16 half[2]; };
		};
	};
	unsigned int one : 1, four : 4, twelve : 12; /* 48 */
	int minus : 3;
	enum reason why : 2;
	bool yes : 1;
	kuid_t uid;			/* 52 */
	refcount_t refs;		/* 56 */
	enum state state;		/* 60 */
	enum wide wide;			/* 64 */
	dev_t dev;			/* 72 */
	gfp_t gfp;			/* 76 */
	__be16 port;			/* 80 */
	__be32 address;			/* 84 */
	struct in6_addr address6;	/* 88 */
	bool flag;			/* 104 */
	u8 mac[6];			/* 105 */
	pid_t pid;			/* 112 */
	void (*function)(int);		/* 120 */
	void *anything;			/* 128 */
	struct unknown *opaque;		/* 136 */
	struct parent parents[3];	/* 144 */
	struct parent *several[2];	/* 312 */
	char lines[2][8];		/* 328 */
	char *label;			/* 344 */
	char **labels;			/* 352 */
	double real;			/* 360 */
	__int128 huge;			/* 368 */
	struct thing *next;		/* 384 */
	char large[100];		/* 392 */
	signed char tiny;		/* 492 */
	char letter;			/* 493 */
	u64 list[0];			/* 496 */
};

/* clang lets BPF functions have 5 arguments. */
#define EVENT(name, ...)                                           \
	typedef void (*btf_trace_##name)(void *data, __VA_ARGS__); \
	btf_trace_##name keep_##name;                              \
	int __traceiter_##name(void *data, __VA_ARGS__)            \
	{                                                          \
		return 0;                                          \
	}

EVENT(event, struct thing *thing, int number, bool flag, enum reason reason)
EVENT(texts, const char *text, u64 word, void *anything, struct thing **things)
EVENT(small, const struct parent *parent, kuid_t uid, short narrow, char letter)
EVENT(sys_enter, struct pt_regs *regs, long id)

typedef void (*btf_trace_nameless)(void *, struct thing *, int);
typedef void (*btf_trace_many)(void *, int, int, int, int, int, int, int, int,
			       int, int, int, long, long);
btf_trace_nameless keep_nameless;
btf_trace_many keep_many;
struct task_struct { struct parent *real_parent; char comm[16]; } task;

int called(struct thing *thing, int number)
{
	return number;
}

// run: --set step=3 --set is_on=true --set kind=B --set name=abc
// shows: .bss hits 69
enum kind { A, B };

const volatile __u8 step = 1;
const volatile bool is_on = false;
const volatile enum kind kind = A;
const volatile char name[8] = "";

long hits;

EVENT(count)
{
	if (is_on && kind == B && name[2] == 'c' && !name[3])
		__sync_fetch_and_add(&hits, step);
	return 0;
}

/* Fibers for kernels/cuda/emulate.h. A fiber is entered once through ucontext and from then on by
 * _setjmp and _longjmp, which make no system call. */
#include "kernels/cuda/emulate.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include <ucontext.h>
#include <unistd.h>

namespace
{

constexpr size_t STACK_BYTES = 128 << 10;
constexpr unsigned LANES = 32;
constexpr unsigned THREADS_MAX = 1024;

enum class state { ready, at_warp, at_block, done };

struct fiber {
    std::unique_ptr<unsigned char[]> stack;
    ucontext_t entry;
    jmp_buf resume;
    bool entered = false;
    state where = state::done;
    unsigned parity = 0;
    dim3 thread;
};

struct warp_slots {
    alignas(16) unsigned char bytes[2][LANES * RMK_EMULATE_SLOT_BYTES];
};

struct machine {
    std::vector<fiber> fibers;
    std::vector<warp_slots> slots;
    std::vector<unsigned char> shared;
    ucontext_t scheduler_entry;
    jmp_buf scheduler;
    fiber *running = nullptr;
    unsigned running_index = 0;
    rmk_emulate_body body = nullptr;
    void *context = nullptr;
};

machine here;
std::mutex launching;

[[noreturn]] void fiber_main()
{
    for (;;) {
        here.body(here.context);
        here.running->where = state::done;
        if (_setjmp(here.running->resume) == 0) {
            _longjmp(here.scheduler, 1);
        }
    }
}

void resume(unsigned index)
{
    fiber &next = here.fibers[index];

    here.running = &next;
    here.running_index = index;
    rmk_emulate_here.thread = next.thread;
    if (_setjmp(here.scheduler) != 0) {
        return;
    }
    if (next.entered) {
        _longjmp(next.resume, 1);
    }
    next.entered = true;
    next.stack = std::make_unique<unsigned char[]>(STACK_BYTES);
    (void)getcontext(&next.entry);
    next.entry.uc_stack.ss_sp = next.stack.get();
    next.entry.uc_stack.ss_size = STACK_BYTES;
    next.entry.uc_link = nullptr;
    makecontext(&next.entry, fiber_main, 0);
    (void)setcontext(&next.entry);
    abort(); /* setcontext came back */
}

void wait_at(state where)
{
    fiber *self = here.running;

    self->where = where;
    if (_setjmp(self->resume) == 0) {
        _longjmp(here.scheduler, 1);
    }
}

/* Run a warp until every lane is done or at the block's barrier. */
void run_warp(unsigned first, unsigned end)
{
    for (;;) {
        unsigned at_warp = 0;
        unsigned at_block = 0;
        unsigned finished = 0;
        for (unsigned i = first; i < end; i++) {
            if (here.fibers[i].where == state::ready) {
                resume(i);
            }
            at_warp += here.fibers[i].where == state::at_warp;
            at_block += here.fibers[i].where == state::at_block;
            finished += here.fibers[i].where == state::done;
        }
        if (at_warp == 0) {
            return;
        }
        if (at_warp != end - first) {
            (void)fprintf(stderr,
                          "emulated kernel: block (%u, %u, %u), threads %u to %u: %u lanes at a "
                          "warp barrier, %u at the block's, %u finished\n",
                          blockIdx.x, blockIdx.y, blockIdx.z, first, end - 1, at_warp, at_block,
                          finished);
            abort();
        }
        for (unsigned i = first; i < end; i++) {
            here.fibers[i].where = state::ready;
        }
    }
}

void run_block(unsigned threads)
{
    for (;;) {
        unsigned at_block = 0;
        for (unsigned first = 0; first < threads; first += LANES) {
            run_warp(first, first + LANES < threads ? first + LANES : threads);
        }
        for (unsigned i = 0; i < threads; i++) {
            at_block += here.fibers[i].where == state::at_block;
        }
        if (at_block == 0) {
            return;
        }
        if (at_block != threads) {
            (void)fprintf(stderr,
                          "emulated kernel: block (%u, %u, %u): %u of %u threads at __syncthreads, "
                          "the rest finished\n",
                          blockIdx.x, blockIdx.y, blockIdx.z, at_block, threads);
            abort();
        }
        for (unsigned i = 0; i < threads; i++) {
            here.fibers[i].where = state::ready;
        }
    }
}

} // namespace

rmk_emulate_place rmk_emulate_here;

void rmk_emulate_run(dim3 grid, dim3 block, size_t shared_bytes, rmk_emulate_body body,
                     void *context)
{
    std::lock_guard<std::mutex> guard(launching);
    unsigned threads = block.x * block.y * block.z;

    if (threads == 0 || threads > THREADS_MAX || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535) {
        (void)fprintf(stderr, "emulated kernel: a launch of %u x %u x %u blocks of %u threads\n",
                      grid.x, grid.y, grid.z, threads);
        abort();
    }
    if (here.fibers.size() < THREADS_MAX) {
        here.fibers.resize(THREADS_MAX);
        here.slots.resize(THREADS_MAX / LANES);
    }
    here.body = body;
    here.context = context;
    here.shared.resize(shared_bytes + 16);
    for (unsigned i = 0; i < threads; i++) {
        here.fibers[i].thread = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    }
    rmk_emulate_here.block_size = block;
    rmk_emulate_here.grid_size = grid;
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                memset(here.shared.data(), 0xff, here.shared.size());
                rmk_emulate_here.block = dim3(x, y, z);
                for (unsigned i = 0; i < threads; i++) {
                    here.fibers[i].where = state::ready;
                }
                run_block(threads);
            }
        }
    }
}

unsigned char *rmk_emulate_shared(void)
{
    uintptr_t address = (uintptr_t)here.shared.data();

    return (unsigned char *)((address + 15) & ~(uintptr_t)15);
}

void __syncthreads(void)
{
    wait_at(state::at_block);
}

void __syncwarp(void)
{
    wait_at(state::at_warp);
}

/* Two buffers in turn: a lane that is one exchange ahead writes the other, and it cannot be two
 * ahead. */
const unsigned char *rmk_emulate_exchange(const void *mine, size_t bytes)
{
    fiber *self = here.running;
    unsigned lane = here.running_index % LANES;
    unsigned char *slots = here.slots[here.running_index / LANES].bytes[self->parity];

    self->parity ^= 1;
    memcpy(slots + lane * RMK_EMULATE_SLOT_BYTES, mine, bytes);
    wait_at(state::at_warp);
    return slots;
}

/* -- the runtime
 * ------------------------------------------------------------------------------------- */

/* Copies out of pinned memory run as late as a GPU might run them: when something of their stream
 * must be done. What writes such memory too early spoils them. */
struct copy {
    void *target;
    const void *source;
    size_t bytes;
};

struct rmk_emulate_stream {
    std::deque<copy> pending;
    uint64_t first; /* number of pending[0]: how many copies are done */
};

struct rmk_emulate_event {
    rmk_emulate_stream *stream;
    uint64_t number; /* copies of its stream that come before it */
};

static std::mutex runtime;
static std::map<const unsigned char *, size_t> pinned;
static std::set<rmk_emulate_stream *> streams;

extern "C" __attribute__((visibility("default"))) struct rmk_emulate_counts rmk_emulate_counts;
struct rmk_emulate_counts rmk_emulate_counts;

extern "C" __attribute__((visibility("default"))) int rmk_emulate_fault;
int rmk_emulate_fault;

cudaError_t cudaGetLastError(void)
{
    static const char *const file = getenv("RMK_EMULATE_FAULT");
    const cudaError_t fault = (cudaError_t)rmk_emulate_fault;

    rmk_emulate_fault = cudaSuccess;
    return file != nullptr && unlink(file) == 0 ? cudaErrorLaunchFailure : fault;
}

static bool is_pinned(const void *memory)
{
    auto above = pinned.upper_bound((const unsigned char *)memory);

    if (above == pinned.begin()) {
        return false;
    }
    auto found = std::prev(above);
    return (size_t)((const unsigned char *)memory - found->first) < found->second;
}

static void catch_up(rmk_emulate_stream *stream, uint64_t number)
{
    while (!stream->pending.empty() && stream->first < number) {
        const copy &next = stream->pending.front();
        memcpy(next.target, next.source, next.bytes);
        stream->pending.pop_front();
        stream->first++;
    }
}

void rmk_emulate_flush(cudaStream_t stream)
{
    std::lock_guard<std::mutex> guard(runtime);

    catch_up(stream, UINT64_MAX);
}

static void flush_all(void)
{
    std::lock_guard<std::mutex> guard(runtime);

    for (rmk_emulate_stream *stream : streams) {
        catch_up(stream, UINT64_MAX);
    }
}

static void *take(size_t bytes)
{
    void *memory = bytes < SIZE_MAX - 512 ? aligned_alloc(256, (bytes + 511) / 256 * 256) : nullptr;

    if (memory != nullptr) {
        memset(memory, 0xa5, bytes); /* a GPU's memory is not zero either */
    }
    return memory;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    rmk_emulate_counts.allocations++;
    *out = take(bytes);
    return *out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *memory)
{
    if (memory != nullptr) {
        rmk_emulate_counts.allocations++; /* it waits for the GPU */
        flush_all();
    }
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    std::lock_guard<std::mutex> guard(runtime);

    rmk_emulate_counts.allocations++;
    *out = take(bytes);
    if (*out == nullptr) {
        return cudaErrorMemoryAllocation;
    }
    pinned[(const unsigned char *)*out] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    if (memory != nullptr) {
        flush_all();
        std::lock_guard<std::mutex> guard(runtime);
        pinned.erase((const unsigned char *)memory);
    }
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    std::lock_guard<std::mutex> guard(runtime);

    *out = new rmk_emulate_stream();
    streams.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    rmk_emulate_flush(stream);
    std::lock_guard<std::mutex> guard(runtime);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    rmk_emulate_counts.waits++;
    rmk_emulate_flush(stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = new rmk_emulate_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    std::lock_guard<std::mutex> guard(runtime);

    event->stream = stream;
    event->number = stream->first + stream->pending.size();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    std::lock_guard<std::mutex> guard(runtime);

    if (event->stream != nullptr) {
        catch_up(event->stream, event->number);
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    std::lock_guard<std::mutex> guard(runtime);

    if (kind == cudaMemcpyHostToDevice && is_pinned(source)) {
        stream->pending.push_back({target, source, bytes});
        return cudaSuccess;
    }
    catch_up(stream, UINT64_MAX);
    memcpy(target, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream)
{
    rmk_emulate_flush(stream);
    memset(target, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = (size_t)1 << 32;
    *total_bytes = (size_t)1 << 32;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 8; /* every rank has its own */
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    *properties = {};
    (void)snprintf(properties->name, sizeof(properties->name), "emulated on the CPU");
    properties->totalGlobalMem = (size_t)1 << 32;
    properties->sharedMemPerBlockOptin = 163 << 10;
    properties->major = 8;
    return cudaSuccess;
}

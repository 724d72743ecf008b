// The threads that torch keeps for its loops, in a process that has loaded it: behind torch's layers they are awake and
// hold the cores, and threads of our own would come to run only when all is done.
#pragma once

#include <cstddef>

namespace edgespec::sampling {

class Team {
 public:
    // Torch's, by the OpenMP runtime that it brings (libgomp); nullptr: there is none here, or it has one thread.
    static const Team* of_torch();

    std::size_t size() const;
    // Calls work(data) on every thread of it, the caller among them, and returns when all have come back.
    void run(void (*work)(void*), void* data) const { parallel_(work, data, 0, 0); }

 private:
    using Parallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
    using MostThreads = int (*)();

    Team(Parallel parallel, MostThreads most_threads) : parallel_(parallel), most_threads_(most_threads) {}
    static const Team* find();

    const Parallel parallel_;
    const MostThreads most_threads_;
};

}  // namespace edgespec::sampling

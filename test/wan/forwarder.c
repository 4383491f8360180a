// A wide-area network on one machine: every host is a network namespace with one TUN device, and this program carries the
// packets between them with the delay, jitter, loss, rate and queue of each ordered pair. Real kernel TCP runs over it; no
// netem, no modules. `network.ts` builds and drives it, README.md tells of it.
//
// Commands come on stdin, one a line, each answered by one line on stdout: "ok", "error WHY" or JSON. At the end of stdin it
// deletes the namespaces that it made and ends, so it never outlives its owner. All numbers are whole and in the named unit.
//
//   host NAME ADDRESS NAMESPACE
//   access HOST UP_KBIT DOWN_KBIT QUEUE_BYTES LOSS_UP_PPM LOSS_DOWN_PPM BURST_PACKETS BAD_US     shared by all links of a host
//   link FROM TO DELAY_US JITTER_US LOSS_PPM BURST_PACKETS BAD_US RATE_KBIT QUEUE_BYTES REORDER  one direction, 0 rate: none
//   cut FROM TO | heal FROM TO                                                                    one direction
//   stats | reset
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <math.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  HOSTS_MAX = 96,
  NAME_BYTES = 32,
  PACKET_BYTES_MAX = 70000, // a super-packet of TCP segmentation offload and its headers
  LINE_BYTES_MAX = 512,
  WORDS_MAX = 12,
  PACKETS_HELD_MAX = 2000000, // beyond it packets are dropped and counted: memory has a limit too
  READS_A_TURN = 32,
  DELIVERIES_A_TURN = 128,
  MTU = 1500,
  TX_QUEUE = 20000,
  LATE_CLASSES = 6,
  PRIORITY = 10,
};

// ---- shapes --------------------------------------------------------------------------------------------------------------

// Bernoulli loss, or bad periods whose mean is told in packets (burst > 1) or in time (badNs > 0): Gilbert, Elliott.
typedef struct {
  double ratio, burst, badNs;
  int isBad;
  uint64_t flipNs;
} Loss;

// A serialiser at a rate with a drop-tail queue; rate 0 passes everything at once.
typedef struct {
  double bitsPerSecond;
  uint64_t queueBytes, freeNs;
} Rate;

typedef struct {
  Loss loss;
  Rate rate;
  uint64_t delayNs, jitterNs, lastDueNs;
  int isCut, mayReorder;
  uint64_t packets, bytes, lost, queueDrops, cutDrops;
} Link;

typedef struct {
  char name[NAME_BYTES], netns[NAME_BYTES];
  int fd, isOwnNamespace;
  Rate up, down;
  Loss lossUp, lossDown;
  uint64_t writeErrors;
} Host;

// The header of virtio stands right before the data: TUN takes both in one write.
typedef struct {
  uint64_t dueNs, order;
  uint32_t bytes;
  uint16_t from, to;
  int passedDown;
  struct virtio_net_hdr header;
  uint8_t data[];
} Packet;
_Static_assert(offsetof(Packet, data) == offsetof(Packet, header) + sizeof(struct virtio_net_hdr), "one write");

static Host hosts[HOSTS_MAX];
static int hostCount;
static Link links[HOSTS_MAX][HOSTS_MAX];
static int16_t hostOfSuffix[65536];
static uint32_t prefix;
static int epollFd;
static uint64_t nextOrder, lateSumNs, lateCount, lateMaxNs, lateClasses[LATE_CLASSES], unroutable, overLimit;

static uint64_t nowNs(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// xorshift64*: one seed gives one sequence of draws (the packets that draw them are the kernel's, so runs still differ).
static uint64_t randomState = 88172645463325252u;
static double uniform(void) {
  randomState ^= randomState << 13;
  randomState ^= randomState >> 7;
  randomState ^= randomState << 17;
  return (double)((randomState * 2685821657736338717u) >> 11) * (1.0 / 9007199254740992.0);
}
static double exponential(double mean) { return -mean * log(1 - uniform()); }

// ---- packets under way: a binary heap, earliest first, ties in the order of arrival ---------------------------------------

static Packet **heap;
static size_t held, heapRoom;

static int isBefore(const Packet *a, const Packet *b) {
  return a->dueNs < b->dueNs || (a->dueNs == b->dueNs && a->order < b->order);
}

static void push(Packet *packet) {
  if (held == heapRoom) {
    heapRoom = heapRoom ? heapRoom * 2 : 4096;
    heap = realloc(heap, heapRoom * sizeof *heap);
    if (!heap) abort();
  }
  size_t at = held++;
  while (at) {
    size_t parent = (at - 1) / 2;
    if (!isBefore(packet, heap[parent])) break;
    heap[at] = heap[parent];
    at = parent;
  }
  heap[at] = packet;
}

static Packet *pop(void) {
  Packet *first = heap[0], *last = heap[--held];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= held) break;
    if (child + 1 < held && isBefore(heap[child + 1], heap[child])) child++;
    if (!isBefore(heap[child], last)) break;
    heap[at] = heap[child];
    at = child;
  }
  if (held) heap[at] = last;
  return first;
}

// ---- what a link does to a segment ----------------------------------------------------------------------------------------

// One draw for each segment on the wire.
static int isLost(Loss *loss, uint64_t atNs) {
  if (loss->ratio <= 0) return 0;
  if (loss->ratio >= 1) return 1;
  if (loss->badNs > 0) {
    double goodNs = loss->badNs * (1 - loss->ratio) / loss->ratio;
    if (!loss->flipNs) {
      loss->isBad = 0;
      loss->flipNs = atNs + (uint64_t)exponential(goodNs);
    }
    while (atNs >= loss->flipNs) {
      loss->isBad = !loss->isBad;
      loss->flipNs += (uint64_t)exponential(loss->isBad ? loss->badNs : goodNs) + 1;
    }
    return loss->isBad;
  }
  if (loss->burst <= 1) return uniform() < loss->ratio;
  if (loss->isBad) {
    if (uniform() < 1 / loss->burst) loss->isBad = 0;
  } else if (uniform() < loss->ratio / (loss->burst * (1 - loss->ratio))) loss->isBad = 1;
  return loss->isBad;
}

// When the last bit of `bytes` that arrive at `*atNs` has left, or 0 where the queue is full.
static int serialise(Rate *rate, uint32_t bytes, uint64_t *atNs) {
  if (rate->bitsPerSecond <= 0) return 1;
  uint64_t startNs = rate->freeNs > *atNs ? rate->freeNs : *atNs;
  double waiting = (double)(startNs - *atNs) * rate->bitsPerSecond / 8e9;
  if (waiting > 0 && waiting + bytes > (double)rate->queueBytes) return 0;
  rate->freeNs = startNs + (uint64_t)(bytes * 8e9 / rate->bitsPerSecond);
  *atNs = rate->freeNs;
  return 1;
}

static int drawLoss(int from, int to, uint64_t atNs) {
  Link *link = &links[from][to];
  int lost = isLost(&link->loss, atNs) || isLost(&hosts[from].lossUp, atNs) ||
             isLost(&hosts[to].lossDown, atNs + link->delayNs);
  link->lost += (uint64_t)lost;
  return lost;
}

static void enqueue(int from, int to, const struct virtio_net_hdr *header, const uint8_t *head, uint32_t headBytes,
                    const uint8_t *body, uint32_t bodyBytes, uint64_t atNs) {
  Link *link = &links[from][to];
  uint32_t bytes = headBytes + bodyBytes;
  if (!serialise(&hosts[from].up, bytes, &atNs) || !serialise(&link->rate, bytes, &atNs)) {
    link->queueDrops++;
    return;
  }
  atNs += link->delayNs;
  if (link->jitterNs) atNs += (uint64_t)(uniform() * (double)link->jitterNs);
  if (!link->mayReorder) {
    if (atNs < link->lastDueNs) atNs = link->lastDueNs;
    link->lastDueNs = atNs;
  }
  Packet *packet = held < PACKETS_HELD_MAX ? malloc(sizeof *packet + bytes) : NULL;
  if (!packet) {
    overLimit++;
    return;
  }
  *packet = (Packet){.dueNs = atNs, .order = nextOrder++, .bytes = bytes, .from = (uint16_t)from, .to = (uint16_t)to};
  packet->header = *header;
  memcpy(packet->data, head, headBytes);
  if (bodyBytes) memcpy(packet->data + headBytes, body, bodyBytes);
  push(packet);
}

static void deliver(Packet *packet, uint64_t atNs) {
  Host *to = &hosts[packet->to];
  Link *link = &links[packet->from][packet->to];
  if (!packet->passedDown && to->down.bitsPerSecond > 0) {
    uint64_t dueNs = packet->dueNs;
    if (!serialise(&to->down, packet->bytes, &dueNs)) {
      link->queueDrops++;
      free(packet);
      return;
    }
    packet->passedDown = 1;
    packet->dueNs = dueNs;
    push(packet);
    return;
  }
  if (link->isCut) { // what was under way when the link was cut is gone too
    link->cutDrops++;
    free(packet);
    return;
  }
  uint64_t lateNs = atNs - packet->dueNs;
  lateSumNs += lateNs;
  lateCount++;
  if (lateNs > lateMaxNs) lateMaxNs = lateNs;
  lateClasses[lateNs < 50000 ? 0 : lateNs < 200000 ? 1 : lateNs < 1000000 ? 2 : lateNs < 5000000 ? 3 : lateNs < 20000000 ? 4 : 5]++;
  if (write(to->fd, &packet->header, packet->bytes + sizeof packet->header) < 0) to->writeErrors++;
  free(packet);
}

// ---- segmentation offload: TCP hands over super-packets, losses take single segments out of them ---------------------------

static uint16_t internetChecksum(const uint8_t *data, uint32_t bytes) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < bytes; i += 2) sum += (uint32_t)(data[i] << 8 | data[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

enum { TCP_FIN_PSH = 0x09, TCP_CWR = 0x80 };

// Segments [first, first + count) of a super-packet become a packet of their own: IPv4 length, id and checksum, TCP sequence
// number, flags and the checksum of the pseudo header, which the receiver's kernel completes.
static void enqueueRun(int from, int to, const struct virtio_net_hdr *whole, const uint8_t *data, uint32_t ipBytes, uint32_t headBytes,
                       uint32_t bodyBytes, uint32_t first, uint32_t count, int hasLast, uint64_t atNs) {
  uint32_t segment = whole->gso_size, start = first * segment, bytes = count * segment;
  if (start + bytes > bodyBytes) bytes = bodyBytes - start;
  uint8_t head[128];
  memcpy(head, data, headBytes);
  uint8_t *tcp = head + ipBytes;
  put16(head + 2, headBytes + bytes);
  put16(head + 4, (uint32_t)(head[4] << 8 | head[5]) + first);
  put16(head + 10, 0);
  put16(head + 10, internetChecksum(head, ipBytes));
  uint32_t sequence;
  memcpy(&sequence, tcp + 4, 4);
  sequence = htonl(ntohl(sequence) + start);
  memcpy(tcp + 4, &sequence, 4);
  if (!hasLast) tcp[13] &= (uint8_t)~TCP_FIN_PSH;
  if (first) tcp[13] &= (uint8_t)~TCP_CWR;
  uint32_t sum = IPPROTO_TCP + (headBytes - ipBytes) + bytes;
  for (int i = 12; i < 20; i += 2) sum += (uint32_t)(head[i] << 8 | head[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  put16(tcp + 16, sum);
  struct virtio_net_hdr header = *whole;
  header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  header.csum_start = (uint16_t)ipBytes;
  header.csum_offset = 16;
  header.hdr_len = (uint16_t)headBytes;
  if (count == 1) {
    header.gso_type = VIRTIO_NET_HDR_GSO_NONE;
    header.gso_size = 0;
  }
  enqueue(from, to, &header, head, headBytes, data + headBytes + start, bytes, atNs);
}

// How many segments may travel as one packet: 200 us of the slowest rate on the way, so that bursts stay what they would be.
static uint32_t segmentsTogether(int from, int to, uint32_t segment, uint32_t all) {
  double rates[3] = {hosts[from].up.bitsPerSecond, links[from][to].rate.bitsPerSecond, hosts[to].down.bitsPerSecond}, slowest = 0;
  for (int i = 0; i < 3; i++)
    if (rates[i] > 0 && (slowest <= 0 || rates[i] < slowest)) slowest = rates[i];
  if (slowest <= 0) return all;
  double count = slowest * 200e-6 / 8 / segment;
  return count < 1 ? 1 : count > all ? all : (uint32_t)count;
}

static void forwardSuperPacket(int from, int to, const struct virtio_net_hdr *header, const uint8_t *data, uint32_t bytes, uint64_t atNs) {
  Link *link = &links[from][to];
  uint32_t ipBytes = (data[0] & 15u) * 4u;
  if (ipBytes < 20 || bytes < ipBytes + 20) return;
  uint32_t headBytes = ipBytes + (data[ipBytes + 12] >> 4) * 4u, segment = header->gso_size;
  if (headBytes > 120 || headBytes >= bytes || segment == 0) return;
  uint32_t bodyBytes = bytes - headBytes, count = (bodyBytes + segment - 1) / segment;
  uint32_t together = segmentsTogether(from, to, segment, count), first = 0;
  for (uint32_t at = 0; at <= count; at++) {
    int isEnd = at == count, lost = 0;
    if (!isEnd) {
      link->packets++;
      link->bytes += headBytes + (at + 1 == count ? bodyBytes - at * segment : segment);
      lost = drawLoss(from, to, atNs);
    }
    if ((isEnd || lost || at - first == together) && at > first) {
      enqueueRun(from, to, header, data, ipBytes, headBytes, bodyBytes, first, at - first, isEnd, atNs);
      first = at;
    }
    if (lost) first = at + 1;
  }
}

static void forward(int from, const struct virtio_net_hdr *header, const uint8_t *data, uint32_t bytes, uint64_t atNs) {
  uint32_t address;
  if (bytes < 20 || data[0] >> 4 != 4) {
    unroutable++;
    return;
  }
  memcpy(&address, data + 16, 4);
  address = ntohl(address);
  int to = (address & 0xffff0000u) == prefix ? hostOfSuffix[address & 0xffff] : -1;
  if (to < 0 || to == from) {
    unroutable++;
    return;
  }
  Link *link = &links[from][to];
  if (link->isCut) {
    link->cutDrops++;
    return;
  }
  if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
    forwardSuperPacket(from, to, header, data, bytes, atNs);
    return;
  }
  link->packets++;
  link->bytes += bytes;
  if (!drawLoss(from, to, atNs)) enqueue(from, to, header, data, bytes, NULL, 0, atNs);
}

// ---- hosts ----------------------------------------------------------------------------------------------------------------

extern char **environ;
static int run(const char *const argv[]) {
  pid_t pid;
  int status;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, 2, 1); // stdout carries our answers
  int error = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error || waitpid(pid, &status, 0) < 0) return -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int writeFile(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t written = write(fd, text, strlen(text));
  close(fd);
  return written < 0 ? -1 : 0;
}

static int setInterface(int socketFd, const char *name, unsigned long request, struct ifreq *with) {
  snprintf(with->ifr_name, IFNAMSIZ, "%s", name);
  return ioctl(socketFd, request, with);
}

static int bringUp(int socketFd, const char *name) {
  struct ifreq flags = {0};
  if (setInterface(socketFd, name, SIOCGIFFLAGS, &flags)) return -1;
  flags.ifr_flags |= IFF_UP;
  return setInterface(socketFd, name, SIOCSIFFLAGS, &flags);
}

static void putAddress(struct ifreq *request, uint32_t address) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
  memset(request, 0, sizeof *request);
  memcpy(&request->ifr_addr, &at, sizeof at);
}

// Inside the host's namespace: a TUN device "wan" with the host's address. Returns its descriptor, or -1 with errno.
static int openDevice(uint32_t address) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), socketFd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq device = {0};
  device.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  int failed = fd < 0 || socketFd < 0 || setInterface(fd, "wan", TUNSETIFF, &device) ||
               ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) || bringUp(socketFd, "lo");
  // Without it the kernel asks for IPv6 routers on each device; there are none.
  if (!failed) writeFile("/proc/sys/net/ipv6/conf/wan/disable_ipv6", "1");
  struct ifreq request;
  putAddress(&request, address);
  failed = failed || setInterface(socketFd, "wan", SIOCSIFADDR, &request);
  putAddress(&request, 0xffff0000u);
  failed = failed || setInterface(socketFd, "wan", SIOCSIFNETMASK, &request);
  memset(&request, 0, sizeof request);
  request.ifr_mtu = MTU;
  failed = failed || setInterface(socketFd, "wan", SIOCSIFMTU, &request);
  memset(&request, 0, sizeof request);
  request.ifr_qlen = TX_QUEUE;
  failed = failed || setInterface(socketFd, "wan", SIOCSIFTXQLEN, &request) || bringUp(socketFd, "wan");
  int error = errno;
  if (socketFd >= 0) close(socketFd);
  if (failed && fd >= 0) close(fd);
  errno = error;
  return failed ? -1 : fd;
}

static int hostNamed(const char *name) {
  for (int i = 0; i < hostCount; i++)
    if (!strcmp(hosts[i].name, name)) return i;
  return -1;
}

static const char *addHost(const char *name, const char *addressText, const char *netns) {
  if (hostCount == HOSTS_MAX) return "there are 96 hosts already";
  if (hostNamed(name) >= 0) return "there is a host of this name";
  if (strlen(name) >= NAME_BYTES || strlen(netns) >= NAME_BYTES) return "a name has at most 31 characters";
  struct in_addr parsed;
  if (inet_pton(AF_INET, addressText, &parsed) != 1) return "the address is not IPv4";
  uint32_t address = ntohl(parsed.s_addr);
  if (hostCount == 0) prefix = address & 0xffff0000u;
  if ((address & 0xffff0000u) != prefix) return "all addresses share one /16";
  if (hostOfSuffix[address & 0xffff] >= 0) return "another host has this address";
  char path[NAME_BYTES + 16];
  snprintf(path, sizeof path, "/run/netns/%s", netns);
  if (access(path, F_OK) == 0) return "there is a namespace of this name";
  if (run((const char *const[]){"ip", "netns", "add", netns, NULL})) return "ip netns add failed";
  Host *host = &hosts[hostCount];
  *host = (Host){.fd = -1, .isOwnNamespace = 1};
  snprintf(host->name, NAME_BYTES, "%s", name);
  snprintf(host->netns, NAME_BYTES, "%s", netns);
  int index = hostCount++; // from here on it is deleted at the end
  int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), target = open(path, O_RDONLY | O_CLOEXEC);
  if (own < 0 || target < 0 || setns(target, CLONE_NEWNET)) return "setns failed";
  host->fd = openDevice(address);
  int error = errno;
  if (setns(own, CLONE_NEWNET)) abort();
  close(own);
  close(target);
  if (host->fd < 0) return strerror(error);
  hostOfSuffix[address & 0xffff] = (int16_t)index;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
  if (epoll_ctl(epollFd, EPOLL_CTL_ADD, host->fd, &event)) return strerror(errno);
  return NULL;
}

// ---- commands -------------------------------------------------------------------------------------------------------------

static int wholeNumber(const char *text, uint64_t *value) {
  char *end;
  if (*text < '0' || *text > '9') return 0;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return errno == 0 && *end == 0 && *value <= 1000000000000u;
}

static void setLoss(Loss *loss, uint64_t ppm, uint64_t burstPackets, uint64_t badUs) {
  *loss = (Loss){.ratio = (double)ppm / 1e6, .burst = (double)burstPackets, .badNs = (double)badUs * 1e3};
}

static void setRate(Rate *rate, uint64_t kbit, uint64_t queueBytes) {
  *rate = (Rate){.bitsPerSecond = (double)kbit * 1e3, .queueBytes = queueBytes};
}

static void setLink(Link *link, const uint64_t v[8]) {
  link->delayNs = v[0] * 1000;
  link->jitterNs = v[1] * 1000;
  setLoss(&link->loss, v[2], v[3], v[4]);
  setRate(&link->rate, v[5], v[6]);
  link->mayReorder = v[7] != 0;
}

static void setAccess(Host *host, const uint64_t v[7]) {
  setRate(&host->up, v[0], v[2]);
  setRate(&host->down, v[1], v[2]);
  setLoss(&host->lossUp, v[3], v[5], v[6]);
  setLoss(&host->lossDown, v[4], v[5], v[6]);
}

static void printStats(void) {
  printf("{\"lateUsMean\":%.1f,\"lateUsMax\":%.1f,\"lateUnder50us200us1ms5ms20msMore\":[", lateCount ? (double)lateSumNs / 1e3 / (double)lateCount : 0.0,
         (double)lateMaxNs / 1e3);
  for (int i = 0; i < LATE_CLASSES; i++) printf("%s%lu", i ? "," : "", lateClasses[i]);
  uint64_t writeErrors = 0;
  for (int i = 0; i < hostCount; i++) writeErrors += hosts[i].writeErrors;
  printf("],\"delivered\":%lu,\"underWay\":%zu,\"unroutable\":%lu,\"overLimit\":%lu,\"writeErrors\":%lu,\"links\":[", lateCount, held, unroutable, overLimit,
         writeErrors);
  int isFirst = 1;
  for (int i = 0; i < hostCount; i++)
    for (int j = 0; j < hostCount; j++) {
      Link *link = &links[i][j];
      if (!link->packets && !link->cutDrops) continue;
      printf("%s{\"from\":\"%s\",\"to\":\"%s\",\"packets\":%lu,\"bytes\":%lu,\"lost\":%lu,\"queueDrops\":%lu,\"cutDrops\":%lu}", isFirst ? "" : ",",
             hosts[i].name, hosts[j].name, link->packets, link->bytes, link->lost, link->queueDrops, link->cutDrops);
      isFirst = 0;
    }
  printf("]}\n");
}

static void resetStats(void) {
  lateSumNs = lateCount = lateMaxNs = unroutable = overLimit = 0;
  memset(lateClasses, 0, sizeof lateClasses);
  for (int i = 0; i < hostCount; i++) {
    hosts[i].writeErrors = 0;
    for (int j = 0; j < hostCount; j++) {
      Link *link = &links[i][j];
      link->packets = link->bytes = link->lost = link->queueDrops = link->cutDrops = 0;
    }
  }
}

// Reads words[at ..] as exactly `count` whole numbers.
static int numbers(char **words, int wordCount, int at, int count, uint64_t *values) {
  if (wordCount != at + count) return 0;
  for (int i = 0; i < count; i++)
    if (!wholeNumber(words[at + i], &values[i])) return 0;
  return 1;
}

static const char *command(char *line) {
  char *words[WORDS_MAX];
  int count = 0;
  for (char *word = strtok(line, " \r"); word; word = strtok(NULL, " \r")) {
    if (count == WORDS_MAX) return "too many words";
    words[count++] = word;
  }
  uint64_t values[8];
  if (count == 0) return "an empty line";
  if (!strcmp(words[0], "host")) return count == 4 ? addHost(words[1], words[2], words[3]) : "host NAME ADDRESS NAMESPACE";
  if (!strcmp(words[0], "reset")) {
    resetStats();
    return NULL;
  }
  int from = count > 1 ? hostNamed(words[1]) : -1, to = count > 2 ? hostNamed(words[2]) : -1;
  if (!strcmp(words[0], "access")) {
    if (from < 0) return "no such host";
    if (!numbers(words, count, 2, 7, values)) return "access takes seven whole numbers";
    setAccess(&hosts[from], values);
    return NULL;
  }
  int isCut = !strcmp(words[0], "cut"), isLink = !strcmp(words[0], "link");
  if (!isCut && !isLink && strcmp(words[0], "heal")) return "no such command";
  if (from < 0 || to < 0 || from == to) return "a link has two different hosts";
  if (isLink) {
    if (!numbers(words, count, 3, 8, values)) return "link takes eight whole numbers";
    setLink(&links[from][to], values);
  } else {
    links[from][to].isCut = isCut;
  }
  return NULL;
}

static char input[LINE_BYTES_MAX];
static size_t inputBytes;

// Answers every whole line of stdin. Returns 0 at its end.
static int readCommands(void) {
  ssize_t got = read(0, input + inputBytes, sizeof input - inputBytes);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return 0;
  inputBytes += (size_t)got;
  char *start = input, *end;
  while ((end = memchr(start, '\n', inputBytes - (size_t)(start - input)))) {
    *end = 0;
    if (!strcmp(start, "stats")) printStats();
    else {
      const char *problem = command(start);
      if (problem) printf("error %s\n", problem);
      else puts("ok");
    }
    start = end + 1;
  }
  fflush(stdout);
  inputBytes -= (size_t)(start - input);
  memmove(input, start, inputBytes);
  return inputBytes < sizeof input; // a line without an end is nobody's command
}

// ---- the loop -------------------------------------------------------------------------------------------------------------

static volatile sig_atomic_t isEnding;
static void onSignal(int signal) {
  (void)signal;
  isEnding = 1;
}

// Sleeping virtual processors wake late (milliseconds); a thread that everything else precedes keeps one awake.
static void *keepAwake(void *cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)(intptr_t)cpu, &set);
  struct sched_param parameters = {0};
  if (sched_setaffinity(0, sizeof set, &set) || sched_setscheduler(0, SCHED_IDLE, &parameters)) return NULL;
  for (;;) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
  }
}

static void readHost(int index) {
  static struct {
    struct virtio_net_hdr header;
    uint8_t data[PACKET_BYTES_MAX];
  } packet;
  uint64_t atNs = nowNs();
  for (int i = 0; i < READS_A_TURN; i++) {
    ssize_t got = read(hosts[index].fd, &packet, sizeof packet);
    if (got <= (ssize_t)sizeof packet.header) return;
    forward(index, &packet.header, packet.data, (uint32_t)got - (uint32_t)sizeof packet.header, atNs);
  }
}

static void loop(void) {
  enum { STDIN_MARK = HOSTS_MAX };
  struct epoll_event events[HOSTS_MAX + 1], own = {.events = EPOLLIN, .data.u32 = STDIN_MARK};
  fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
  if (epoll_ctl(epollFd, EPOLL_CTL_ADD, 0, &own)) return;
  while (!isEnding) {
    uint64_t atNs = nowNs();
    for (int budget = DELIVERIES_A_TURN; budget && held && heap[0]->dueNs <= atNs; budget--) deliver(pop(), atNs);
    struct timespec wait = {3600, 0};
    if (held) {
      atNs = nowNs();
      uint64_t leftNs = heap[0]->dueNs > atNs ? heap[0]->dueNs - atNs : 0;
      wait = (struct timespec){(time_t)(leftNs / 1000000000u), (long)(leftNs % 1000000000u)};
    }
    int ready = epoll_pwait2(epollFd, events, HOSTS_MAX + 1, &wait, NULL);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.u32 != STDIN_MARK) readHost((int)events[i].data.u32);
      else if (!readCommands()) return;
    }
  }
}

static int usage(void) {
  fputs("usage: forwarder [-s SEED] [-r] [-i]   (-r: real-time scheduling, -i: keep the processors awake)\n", stderr);
  return 2;
}

int main(int argc, char **argv) {
  int option, isRealTime = 0, staysAwake = 0;
  uint64_t seed = 1;
  while ((option = getopt(argc, argv, "s:ri")) != -1) {
    if (option == 's' && wholeNumber(optarg, &seed)) continue;
    else if (option == 'r') isRealTime = 1;
    else if (option == 'i') staysAwake = 1;
    else return usage();
  }
  if (optind != argc) return usage();
  randomState ^= (seed + 1) * 0x9e3779b97f4a7c15u;
  memset(hostOfSuffix, 0xff, sizeof hostOfSuffix);
  epollFd = epoll_create1(EPOLL_CLOEXEC);
  if (epollFd < 0) return 1;
  struct sigaction action = {.sa_handler = onSignal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (staysAwake)
    for (long cpu = 0, all = sysconf(_SC_NPROCESSORS_ONLN); cpu < all; cpu++) {
      pthread_t thread;
      pthread_create(&thread, NULL, keepAwake, (void *)(intptr_t)cpu);
    }
  struct sched_param parameters = {.sched_priority = PRIORITY};
  if (isRealTime && sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameters))
    fprintf(stderr, "no real-time scheduling (%s): packets may be late\n", strerror(errno));
  prctl(PR_SET_TIMERSLACK, 1);
  loop();
  for (int i = 0; i < hostCount; i++) {
    close(hosts[i].fd);
    run((const char *const[]){"ip", "netns", "del", hosts[i].netns, NULL});
  }
  return 0;
}

// A USB device that is not there, for programs that use libusb: a handler of usbfs's requests behind umockdev.
//   umockdev-wrapper usb-simulator IMAGE COMMAND…
// A disk (bulk-only transport, SCSI) that is IMAGE, 1234:5678 on bus 1, at address 2. SIGUSR1 to the process whose number is in
// IMAGE.pid unplugs it. With SIMULATE=headset it is a headset, 1234:5679: a key that SIGUSR2 presses (interrupt transfers), and ears
// (USB audio 1.0, isochronous transfers): what they hear is in IMAGE afterwards.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/usbdevice_fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <umockdev.h>
#include <unistd.h>

static unsigned char *image;
static gsize image_size;
static volatile sig_atomic_t gone;
static UMockdevTestbed *bed;

static const unsigned char descriptors[] = {
    18, 1, 0, 2, 0, 0, 0, 64, 0x34, 0x12, 0x78, 0x56, 0, 1, 1, 2, 3, 1,  // device
    9, 2, 32, 0, 1, 1, 0, 0x80, 50,                                      // configuration
    9, 4, 0, 0, 2, 8, 6, 0x50, 0,                                        // interface: mass storage, SCSI, bulk-only
    7, 5, 0x81, 2, 0, 2, 0, 7, 5, 0x02, 2, 0, 2, 0,                      // endpoints of 512 bytes
};
static const unsigned char headset_descriptors[] = {
    18, 1, 0x10, 1, 0, 0, 0, 64, 0x34, 0x12, 0x79, 0x56, 0, 1, 1, 2, 3, 1,  // device
    9, 2, 135, 0, 3, 1, 0, 0x80, 50,                                         // configuration
    9, 4, 0, 0, 1, 3, 1, 1, 0,                                               // interface: a boot keyboard
    9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0, 7, 5, 0x81, 3, 8, 0, 10,
    9, 4, 1, 0, 0, 1, 1, 0, 0,                                               // interface: audio control
    9, 0x24, 1, 0, 1, 30, 0, 1, 2,                                           // one stream: from USB to a speaker
    12, 0x24, 2, 1, 1, 1, 0, 2, 3, 0, 0, 0, 9, 0x24, 3, 2, 1, 3, 0, 1, 0,
    9, 4, 2, 0, 0, 1, 2, 0, 0,                                               // interface: the stream, without bandwidth
    9, 4, 2, 1, 1, 1, 2, 0, 0,                                               // and with: 48 kHz, two channels, 16 bits
    7, 0x24, 1, 1, 1, 1, 0, 11, 0x24, 2, 1, 2, 2, 16, 1, 0x80, 0xBB, 0,
    9, 5, 0x02, 9, 192, 0, 1, 0, 0, 7, 0x25, 1, 0, 0, 0, 0,
};
// A keyboard's report, as the HID specification has it for boot devices (appendix B.1).
static const unsigned char report[] = {
    5, 1, 9, 6, 0xA1, 1, 5, 7, 0x19, 0xE0, 0x29, 0xE7, 0x15, 0, 0x25, 1, 0x75, 1, 0x95, 8, 0x81, 2, 0x95, 1, 0x75, 8, 0x81, 1,
    0x95, 5, 0x75, 1, 5, 8, 0x19, 1, 0x29, 5, 0x91, 2, 0x95, 1, 0x75, 3, 0x91, 1, 0x95, 6, 0x75, 8, 0x15, 0, 0x25, 0x65, 5, 7,
    0x19, 0, 0x29, 0x65, 0x81, 0, 0xC0,
};
static const char *strings[] = {"Simulated", "Disk that is not there", "0123456789AB"};
static int headset;
static GPid child;

// The transport's state.
static unsigned tag, residue, status, left;
static guint64 place;
static unsigned char reply[64];
static unsigned reply_length;
static int writes, phase;  // phase: 0 command, 1 data, 2 status
static unsigned char sense;

static unsigned be(const unsigned char *b, int n) { unsigned v = 0; while (n--) v = v << 8 | *b++; return v; }
static unsigned le32(const unsigned char *b) { return b[0] | b[1] << 8 | b[2] << 16 | (unsigned)b[3] << 24; }
static void put_be(unsigned char *b, unsigned v) { b[0] = v >> 24; b[1] = v >> 16; b[2] = v >> 8; b[3] = v; }

static void command(const unsigned char *b) {
    unsigned sectors = image_size / 512;
    reply_length = left = 0;
    writes = 0;
    memset(reply, 0, sizeof reply);
    switch (b[0]) {
    case 0x00: case 0x1B: case 0x1E: case 0x35: break;
    case 0x03: reply[0] = 0x70; reply[2] = sense; reply[7] = 10; reply_length = 18; sense = 0; break;
    case 0x12:
        if (b[1] & 1) { status = 1; sense = 5; break; }
        reply[2] = 5; reply[3] = 2; reply[4] = 31;
        memcpy(reply + 8, "SIMULATEDisk not there   1.0 ", 28);
        reply_length = 36;
        break;
    case 0x1A: reply[0] = 3; reply_length = 4; break;
    case 0x25: put_be(reply, sectors - 1); put_be(reply + 4, 512); reply_length = 8; break;
    case 0x28: case 0x2A:
        place = be(b + 2, 4) * 512ull;
        left = be(b + 7, 2) * 512;
        writes = b[0] == 0x2A;
        if (place + left > image_size) { left = 0; status = 1; sense = 5; }
        break;
    default: status = 1; sense = 5;
    }
}

// What bulk transfers do; the result is usbfs's status, *moved the bytes.
static int bulk(unsigned char endpoint, unsigned char *data, int length, int *moved) {
    *moved = length;
    if (endpoint == 0x02 && phase == 0) {
        if (length != 31 || le32(data) != 0x43425355) return -EPIPE;
        tag = le32(data + 4);
        residue = le32(data + 8);
        status = 0;
        command(data + 15);
        phase = residue ? 1 : 2;
        return 0;
    }
    if (endpoint == 0x02) {
        if (writes && (unsigned)length <= left) { memcpy(image + place, data, length); place += length; left -= length; }
        residue -= length;
        if (!residue) phase = 2;
        return 0;
    }
    if (phase == 1 && !writes && (left || reply_length)) {
        unsigned count = left ? left : reply_length;
        if (count > (unsigned)length) count = length;
        if (left) { memcpy(data, image + place, count); place += count; left -= count; }
        else { memcpy(data, reply, count); reply_length -= count; memmove(reply, reply + count, reply_length); }
        residue -= count;
        if (!residue || count < (unsigned)length || (!left && !reply_length)) phase = 2;
        *moved = count;
        return 0;
    }
    if (phase == 1 && status) { phase = 2; *moved = 0; return -EPIPE; }
    unsigned char wrapper[13] = {0x55, 0x53, 0x42, 0x53, tag, tag >> 8, tag >> 16, tag >> 24,
                                 residue, residue >> 8, residue >> 16, residue >> 24, status};
    if (length < 13) return -EOVERFLOW;
    memcpy(data, wrapper, 13);
    *moved = 13;
    phase = 0;
    return 0;
}

static int control(unsigned char *data, int length, int *moved) {
    unsigned char *answer = data + 8, buffer[256];
    unsigned asked = data[6] | data[7] << 8, count = 0;
    *moved = 0;
    const unsigned char *all = headset ? headset_descriptors : descriptors;
    if (data[0] == 0x80 && data[1] == 6 && data[3] == 1) memcpy(buffer, all, count = 18);
    else if (data[0] == 0x80 && data[1] == 6 && data[3] == 2) memcpy(buffer, all + 18, count = all[20] | all[21] << 8);
    else if (headset && data[0] == 0x81 && data[1] == 6 && data[3] == 0x22) memcpy(buffer, report, count = sizeof report);
    else if (data[0] == 0x80 && data[1] == 6 && data[3] == 3) {
        if (data[2] == 0) memcpy(buffer, "\4\3\11\4", count = 4);
        else if (data[2] <= 3) {
            const char *text = strings[data[2] - 1];
            count = 2 + 2 * strlen(text);
            buffer[0] = count;
            buffer[1] = 3;
            for (int i = 0; text[i]; i++) { buffer[2 + 2 * i] = text[i]; buffer[3 + 2 * i] = 0; }
        } else return -EPIPE;
    } else if (data[0] == 0xA1 && data[1] == 0xFE) buffer[0] = 0, count = 1;
    else if (data[0] == 0x80 && data[1] == 0) buffer[0] = buffer[1] = 0, count = 2;
    else if (data[0] == 0x21 && data[1] == 0xFF) phase = 0;
    else if (data[0] & 0x80) return -EPIPE;
    if (count > asked) count = asked;
    if ((int)count > length - 8) count = length - 8;
    memcpy(answer, buffer, count);
    *moved = count;
    return 0;
}

static GQueue flying = G_QUEUE_INIT;

// The headset's interrupt transfers wait for a key, and its key for a transfer.
static GQueue waiting = G_QUEUE_INIT;
static unsigned char keys[16];
static int key_count;

static void press(void) {
    while (key_count && !g_queue_is_empty(&waiting)) {
        UMockdevIoctlData *data = g_queue_pop_head(&waiting);
        struct usbdevfs_urb *urb = (void *)data->data;
        UMockdevIoctlData *buffer = umockdev_ioctl_data_resolve(data, G_STRUCT_OFFSET(struct usbdevfs_urb, buffer), urb->buffer_length, NULL);
        memset(buffer->data, 0, urb->buffer_length);
        if (urb->buffer_length >= 8) buffer->data[2] = keys[0];
        memmove(keys, keys + 1, --key_count);
        urb->status = 0;
        urb->actual_length = 8;
        g_queue_push_tail(&flying, data);
    }
}

// One isochronous packet: its length is behind the request in the program's memory, and so is what became of it.
static void hear(UMockdevIoctlData *data, struct usbdevfs_urb *urb, const unsigned char *sound) {
    struct usbdevfs_iso_packet_desc packet = {0};
    struct iovec here = {&packet, sizeof packet}, there = {(void *)(data->client_addr + sizeof *urb), sizeof packet};
    urb->status = 0;
    if (urb->number_of_packets != 1 || process_vm_readv(child, &here, 1, &there, 1, 0) != sizeof packet) { urb->status = -EINVAL; return; }
    if (packet.length <= (unsigned)urb->buffer_length) {
        image = g_realloc(image, image_size + packet.length + 1);
        memcpy(image + image_size, sound, packet.length);
        image_size += packet.length;
    }
    packet.actual_length = packet.length;
    packet.status = 0;
    if (process_vm_writev(child, &here, 1, &there, 1, 0) != sizeof packet) urb->status = -EINVAL;
}

static gboolean handle(UMockdevIoctlBase *base, UMockdevIoctlClient *client, gpointer user) {
    (void)base; (void)user;
    UMockdevIoctlData *argument = umockdev_ioctl_client_get_arg(client);
    if (gone) { umockdev_ioctl_client_complete(client, -1, ENODEV); return TRUE; }
    switch (umockdev_ioctl_client_get_request(client)) {
    case USBDEVFS_GET_CAPABILITIES: {
        UMockdevIoctlData *value = umockdev_ioctl_data_resolve(argument, 0, sizeof(guint32), NULL);
        *(guint32 *)value->data = USBDEVFS_CAP_BULK_SCATTER_GATHER | USBDEVFS_CAP_BULK_CONTINUATION | USBDEVFS_CAP_NO_PACKET_SIZE_LIM;
        umockdev_ioctl_client_complete(client, 0, 0);
        return TRUE;
    }
    case USBDEVFS_GETDRIVER: umockdev_ioctl_client_complete(client, -1, ENODATA); return TRUE;
    case USBDEVFS_SUBMITURB: {
        UMockdevIoctlData *data = umockdev_ioctl_data_resolve(argument, 0, sizeof(struct usbdevfs_urb), NULL);
        struct usbdevfs_urb *urb = (void *)data->data;
        UMockdevIoctlData *buffer = umockdev_ioctl_data_resolve(data, G_STRUCT_OFFSET(struct usbdevfs_urb, buffer), urb->buffer_length, NULL);
        int moved = 0;
        if (headset && urb->type == USBDEVFS_URB_TYPE_INTERRUPT) {
            g_queue_push_tail(&waiting, g_object_ref(data));
            press();
            umockdev_ioctl_client_complete(client, 0, 0);
            return TRUE;
        }
        if (headset && urb->type == USBDEVFS_URB_TYPE_ISO) {
            hear(data, urb, buffer->data);
            g_queue_push_tail(&flying, g_object_ref(data));
            umockdev_ioctl_client_complete(client, 0, 0);
            return TRUE;
        }
        int isControl = urb->type == USBDEVFS_URB_TYPE_CONTROL;
        urb->status = isControl ? control(buffer->data, urb->buffer_length, &moved)
                                : bulk(urb->endpoint, buffer->data, urb->buffer_length, &moved);
        urb->actual_length = moved;
        g_queue_push_tail(&flying, g_object_ref(data));
        umockdev_ioctl_client_complete(client, 0, 0);
        return TRUE;
    }
    case USBDEVFS_REAPURB:
    case USBDEVFS_REAPURBNDELAY: {
        UMockdevIoctlData *data = g_queue_pop_head(&flying);
        if (!data) { umockdev_ioctl_client_complete(client, -1, EAGAIN); return TRUE; }
        UMockdevIoctlData *place = umockdev_ioctl_data_resolve(argument, 0, sizeof(gpointer), NULL);
        umockdev_ioctl_data_set_ptr(place, 0, data);
        umockdev_ioctl_client_complete(client, 0, 0);
        g_object_unref(data);
        return TRUE;
    }
    case USBDEVFS_DISCARDURB:
        for (GList *link = waiting.head; link; link = link->next) {
            UMockdevIoctlData *data = link->data;
            if (data->client_addr != *(gulong *)argument->data) continue;
            struct usbdevfs_urb *urb = (void *)data->data;
            urb->status = -ENOENT;
            urb->actual_length = 0;
            g_queue_push_tail(&flying, data);
            g_queue_delete_link(&waiting, link);
            umockdev_ioctl_client_complete(client, 0, 0);
            return TRUE;
        }
        umockdev_ioctl_client_complete(client, -1, EINVAL);
        return TRUE;
    // Claiming, drivers, configurations, resets: all is well.
    default: umockdev_ioctl_client_complete(client, 0, 0); return TRUE;
    }
}

static gboolean unplug(gpointer user) {
    (void)user;
    gone = 1;
    umockdev_testbed_remove_device(bed, "/sys/devices/usb1/1-1");
    return G_SOURCE_CONTINUE;
}

static gboolean key(gpointer user) {
    (void)user;
    if (key_count + 2 <= (int)sizeof keys) {
        keys[key_count++] = 4;  // a
        keys[key_count++] = 0;
    }
    press();
    return G_SOURCE_CONTINUE;
}

static GMainLoop *loop;
static int result = 1;
static void ended(GPid pid, gint wait_status, gpointer user) {
    (void)pid; (void)user;
    result = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 1;
    g_main_loop_quit(loop);
}

#include <glib-unix.h>
int main(int argc, char **argv) {
    if (argc < 3 || !g_file_get_contents(argv[1], (gchar **)&image, &image_size, NULL)) return 2;
    gchar *note = g_strconcat(argv[1], ".pid", NULL), *number = g_strdup_printf("%d\n", getpid());
    g_file_set_contents(note, number, -1, NULL);
    headset = !g_strcmp0(g_getenv("SIMULATE"), "headset");
    if (headset) strings[1] = "Headset that is not there";
    bed = umockdev_testbed_new();
    GString *text = g_string_new(NULL);
    g_string_append_printf(text,
        "P: /devices/usb1/1-1\nN: bus/usb/001/002\nE: DEVTYPE=usb_device\nE: DEVNAME=/dev/bus/usb/001/002\nE: SUBSYSTEM=usb\nE: BUSNUM=001\nE: DEVNUM=002\n"
        "E: MAJOR=189\nE: MINOR=1\nA: busnum=1\\n\nA: devnum=2\\n\nA: speed=%s\\n\nA: idVendor=1234\\n\nA: idProduct=%s\\n\n"
        "A: bConfigurationValue=1\\n\nA: bNumConfigurations=1\\n\nH: descriptors=",
        headset ? "12" : "480", headset ? "5679" : "5678");
    const unsigned char *all = headset ? headset_descriptors : descriptors;
    for (unsigned i = 0; i < (headset ? sizeof headset_descriptors : sizeof descriptors); i++) g_string_append_printf(text, "%02X", all[i]);
    g_string_append(text, "\n");
    GError *error = NULL;
    if (!umockdev_testbed_add_from_string(bed, text->str, &error)) { fprintf(stderr, "%s\n", error->message); return 2; }
    UMockdevIoctlBase *handler = umockdev_ioctl_base_new();
    g_signal_connect(handler, "handle-ioctl", G_CALLBACK(handle), NULL);
    if (!umockdev_testbed_attach_ioctl(bed, "/dev/bus/usb/001/002", handler, &error)) { fprintf(stderr, "%s\n", error->message); return 2; }
    if (!g_spawn_async(NULL, argv + 2, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN,
                       NULL, NULL, &child, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    loop = g_main_loop_new(NULL, FALSE);
    g_child_watch_add(child, ended, NULL);
    g_unix_signal_add(SIGUSR1, unplug, NULL);
    g_unix_signal_add(SIGUSR2, key, NULL);
    g_main_loop_run(loop);
    g_file_set_contents(argv[1], (gchar *)image, image_size, NULL);
    return result;
}

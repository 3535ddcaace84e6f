// Plays or records by ALSA's own system calls, for guests without a library: sound play FRAMES | sound record FRAMES. What is
// played is a series of numbers that the test knows; what is recorded goes to standard output. 48 kHz, two channels, 16 bits.
#include <fcntl.h>
#include <limits.h>
#include <sound/asound.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct snd_pcm_hw_params params;

static void choose(int mask, unsigned value) {
    struct snd_mask *m = &params.masks[mask - SNDRV_PCM_HW_PARAM_FIRST_MASK];
    memset(m, 0, sizeof *m);
    m->bits[value / 32] = 1u << (value % 32);
}
static void set(int interval, unsigned value) {
    struct snd_interval *i = &params.intervals[interval - SNDRV_PCM_HW_PARAM_FIRST_INTERVAL];
    i->min = i->max = value;
    i->integer = 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int plays = !strcmp(argv[1], "play");
    long frames = atol(argv[2]);
    int card = open(plays ? "/dev/snd/pcmC0D0p" : "/dev/snd/pcmC0D0c", O_RDWR);
    if (card < 0) { perror("open"); return 1; }
    memset(&params, 0, sizeof params);
    for (int i = 0; i <= SNDRV_PCM_HW_PARAM_LAST_MASK - SNDRV_PCM_HW_PARAM_FIRST_MASK; i++)
        memset(&params.masks[i], 0xFF, sizeof params.masks[i]);
    for (int i = 0; i <= SNDRV_PCM_HW_PARAM_LAST_INTERVAL - SNDRV_PCM_HW_PARAM_FIRST_INTERVAL; i++)
        params.intervals[i].max = UINT_MAX;
    params.rmask = ~0u;
    params.info = ~0u;
    choose(SNDRV_PCM_HW_PARAM_ACCESS, SNDRV_PCM_ACCESS_RW_INTERLEAVED);
    choose(SNDRV_PCM_HW_PARAM_FORMAT, SNDRV_PCM_FORMAT_S16_LE);
    choose(SNDRV_PCM_HW_PARAM_SUBFORMAT, SNDRV_PCM_SUBFORMAT_STD);
    set(SNDRV_PCM_HW_PARAM_CHANNELS, 2);
    set(SNDRV_PCM_HW_PARAM_RATE, 48000);
    set(SNDRV_PCM_HW_PARAM_PERIOD_SIZE, 2048);
    set(SNDRV_PCM_HW_PARAM_PERIODS, 4);
    if (ioctl(card, SNDRV_PCM_IOCTL_HW_PARAMS, &params)) { perror("parameters"); return 1; }
    if (ioctl(card, SNDRV_PCM_IOCTL_PREPARE)) { perror("prepare"); return 1; }
    static unsigned char buffer[2048 * 4];
    unsigned value = 1;
    for (long done = 0; done < frames;) {
        long count = frames - done < 2048 ? frames - done : 2048;
        if (plays)
            for (long i = 0; i < count * 4; i++) buffer[i] = (value = value * 1103515245 + 12345) >> 16;
        struct snd_xferi piece = {.buf = buffer, .frames = count};
        if (ioctl(card, plays ? SNDRV_PCM_IOCTL_WRITEI_FRAMES : SNDRV_PCM_IOCTL_READI_FRAMES, &piece)) { perror("transfer"); return 1; }
        if (!plays && write(1, buffer, piece.result * 4) < 0) return 1;
        done += piece.result;
    }
    if (plays && ioctl(card, SNDRV_PCM_IOCTL_DRAIN)) { perror("drain"); return 1; }
    return 0;
}

/** The part of write-file-atomic 8 that is used here; the package has no types. */
declare module "write-file-atomic" {
  interface Options {
    readonly mode?: number | false;
    readonly tmpfileCreated?: (path: string) => Promise<void> | void;
  }
  function writeFileAtomic(path: string, data: undefined, options: Options): Promise<void>;
  export = writeFileAtomic;
}
